"""A federation of simulated nodes whose members are silent as told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from kesit_client.app import make_app
from kesit_privacy.features import CodeArray
from kesit_privacy.instruction import Instruction
from kesit_privacy.spending import Spending
from kesit_privacy.study import Study
from kesit_privacy.wire import HELLO, SUM
from kesit_server.courier import Courier, Patience
from kesit_server.federation import Federation
from kesit_server.run_book import Unkept
from kesit_simulations.grid import InProcessGrid
from kit import SERVER, query_for, random_codes, small_nodes, spent


class Checking(Unkept):
    """A book that keeps nothing, and looks before each attempt is sent."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def asked(self, order: Instruction, spending: Sequence[Spending]) -> None:
        self._look()


class Run:
    """A federation over an in-process grid whose members are silent as told.

    `silent(attempt, place)` says whether the member at `place` misses the sum of that attempt,
    counted over the whole run from 0. `told` holds what a person who watches is told.
    """

    def __init__(
        self,
        study: Study,
        clients: int,
        silent: Callable[[int, int], bool] = lambda attempt, place: False,
        mute: frozenset[int] = frozenset(),
        codes: CodeArray | None = None,
    ) -> None:
        self.study = study
        rows = random_codes(study, 60) if codes is None else codes
        self.nodes = small_nodes(study, rows, clients)
        self.missed: set[tuple[int, str]] = set()
        self.told: list[str] = []
        ids = list(range(2, 2 + clients))

        def silence(node: int, kind: str) -> bool:
            if kind == HELLO:
                return node - 2 in mute
            attempt = len(self.federation.orders) - 1
            misses = kind == SUM and silent(attempt, node - 2)
            if misses:
                self.missed.add((attempt, self.nodes[node - 2].me))
            return misses

        app = make_app(lambda context: self.nodes[int(str(context.node_config["partition-id"]))])
        self.courier = Courier(InProcessGrid(app, ids, silent=silence), Patience(0, 1))
        self.federation = Federation(
            self.courier,
            study,
            SERVER,
            simulated=True,
            on_event=self.told.append,
            book=Checking(self.check_books),
        )

    def check_books(self) -> None:
        """Every client's spending <= the server's <= the study's budget."""
        assert self.federation.spent_units <= self.study.mu2_units
        spending = self.federation.spending
        paid = [sum(e.units for e in spending if e.side != other) for other in ("held", "train")]
        assert self.federation.spent_units == max(paid)
        for node in self.nodes:
            assert spent(node, self.study) <= self.federation.spent_units

    def finish(self) -> None:
        """All sums of the plan, one after the other."""
        self.federation.hello()
        for step in self.study.plan:
            self.check_shares()
            self.federation.sum(step.step, query_for(self.study, step.step))
            self.check_books()

    def check_shares(self) -> None:
        """What the next sums could cost is in proportion to their shares of the plan."""
        done = {opened.step for opened in self.federation.sums}
        ahead = [step for step in self.study.plan if step.step not in done]
        noise = [
            self.federation.noise_ahead(step.step, 1.0) * math.sqrt(step.share) for step in ahead
        ]
        assert max(noise) <= min(noise) * (1 + 1e-9)
