"""The federation: one function, `sum`, between a query and the noisy sum over all members.

Everything that the server learns of customers passes here. For each attempt it plans the noise from
what is left of the study's μ², writes the charge into its own books, asks, and opens the sum if the
whole roster answered. A silent or refusing member costs a new attempt on the smaller roster.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping
from fractions import Fraction

from kesit_privacy import accounting, canonical
from kesit_privacy import hello as hello_form
from kesit_privacy.errors import BudgetError, ProtocolError
from kesit_privacy.hello import Hello, HelloRequest, Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import MAX_ATTEMPTS, Canaries, Instruction
from kesit_privacy.masking import WordArray, open_sum
from kesit_privacy.noise import SECURE
from kesit_privacy.queries import Query, TrainedWeights
from kesit_privacy.sides import BookSide, BySide
from kesit_privacy.spending import Spending
from kesit_privacy.study import PlanStep, Study
from kesit_privacy.target import book_side
from kesit_privacy.training import TRAINED, Event
from kesit_privacy.wire import (
    END,
    HELLO,
    MEANING,
    REQUEST,
    SUM,
    TRANSCRIPT,
    RefusalCode,
    unpack_words,
)
from kesit_server.courier import Courier, Reply
from kesit_server.errors import FederationError
from kesit_server.pots import Pot
from kesit_server.run_book import KeptAttempt, RunBook, Unkept
from kesit_server.sums import NoisySum

SMALLEST_PART = 1 / 16
"""Of a step's planned cost: with less, its noise would be more than four times the planned."""

END_SECONDS = 10.0
"""How long the members' word that they deleted their keys is waited for, at most."""

LARGEST_EXPECTED_SILENCE = 0.25
"""Members × silence probability beyond which retries would eat the budget (rule 6)."""


class Federation:
    """One run of a study over the members that answer on a grid.

    Args:
        courier: carries the messages.
        study: the server's copy of the study.
        identity: the server's key, which clients pin.
        simulated: allow more members than retries could bear, and simulated noise.
        on_event: called with a line of text when something happens that a person may want to know.
        book: keeps the run as it goes, so that another process can go on with it.
        enrolled: the identity of each Flower node that is asked. A hello of anyone else counts as
            silence, so that a stranger cannot make the members refuse the run. None: any identity.
        run: the run's id, 32 hex digits; None draws one.
        names: what people call the members, by identity.
    """

    def __init__(
        self,
        courier: Courier,
        study: Study,
        identity: Identity,
        *,
        simulated: bool = False,
        on_event: Callable[[str], None] = lambda text: None,
        book: RunBook | None = None,
        enrolled: Mapping[int, str] | None = None,
        run: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.study = study
        self.orders: list[Instruction] = []
        self.spending: list[Spending] = []
        self.sums: list[NoisySum] = []
        self._courier = courier
        self._identity = identity
        self._simulated = simulated
        self._on_event = on_event
        self._book = book or Unkept()
        self._enrolled = enrolled
        self._names = names or {}
        self._spent = BySide()
        self.pot = Pot(study)
        self._request = HelloRequest(study.hash, run or secrets.token_hex(16), identity.public)
        self._transcript: Transcript | None = None
        self._node_of: dict[str, int] = {}
        self._roster: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        """The run's id, hex."""
        return self._request.run

    @property
    def spent_units(self) -> int:
        """Units of μ² that any customer can have paid in this run: those of the dearer side."""
        return self._spent.units

    @property
    def modes(self) -> frozenset[str]:
        """How the members made noise, by their own signed word."""
        return self._known_transcript().modes

    @property
    def noisy(self) -> bool:
        """Whether members added noise at all (simulations may leave it out)."""
        return not any("-off" in mode for mode in self.modes)

    @property
    def greeted(self) -> tuple[str, ...]:
        """Identities of all members that said hello, sorted."""
        return tuple(sorted(self._node_of))

    @property
    def members(self) -> int:
        """Members of the present roster."""
        return len(self._roster)

    @property
    def courier(self) -> Courier:
        """The courier, for its counts."""
        return self._courier

    def hello(self) -> Transcript:
        """Gather the members' keys for this run.

        Raises:
            FederationError: too few answered, too many for the retries they would need, or their
                hellos contradict each other.
        """
        nodes = sorted(self._courier.grid.get_node_ids())
        if self._enrolled is not None:
            nodes = [node for node in nodes if node in self._enrolled]
        replies = self._courier.ask(HELLO, {REQUEST: self._request.encoded}, nodes)
        hellos: dict[int, Hello] = {}
        for node, reply in replies.items():
            try:
                if reply.code is RefusalCode.OK:
                    hello = Hello.from_value(canonical.decode(reply.payload))
                    hello_form.gather(self._request, [hello])  # one bad hello ends no run
                    self._check_enrolled(node, hello)
                    hellos[node] = hello
            except ProtocolError:
                replies[node] = Reply(RefusalCode.INTERNAL, b"")
        called = self._enrolled or {node: f"node {node}" for node in nodes}
        absent = [(called[node], replies.get(node)) for node in nodes if node not in hellos]
        self._require_enough(len(hellos), absent)
        try:
            self._transcript = hello_form.gather(self._request, hellos.values())
        except ProtocolError as error:
            raise FederationError(error.cause, remedy=error.remedy) from error
        if not self._simulated and self._transcript.modes != {SECURE}:
            raise FederationError(
                "A member answers with simulated noise.", remedy="Remove it from the federation."
            )
        self._node_of = {hello.identity: node for node, hello in hellos.items()}
        self._roster = tuple(sorted(self._node_of))
        self._check_silence()
        self._book.begin(self._transcript, self._node_of)
        self._on_event(f"{len(self._roster)} of {len(nodes)} members take part")
        return self._transcript

    def resume(self) -> None:
        """Take up the run that the book holds, in place of a hello.

        `sum` then repeats what was opened and asks for what was in flight with the same bytes, so
        no member is charged twice. The caller must go through the same steps as before.
        """
        self._transcript, self._node_of = self._book.begun(self.study)
        self._request = self._transcript.request
        self._roster = tuple(sorted(self._node_of))
        self._on_event(f"run {self.run} is taken up again with {len(self._roster)} members")

    def sum(self, step: str, query: Query, canaries: Canaries | None = None) -> NoisySum:
        """The noisy sum of `query` over all members' customers, for one step of the plan.

        Raises:
            FederationError: too few members are left, or three attempts failed.
            BudgetError: too little is left of the budget for this step.
        """
        planned = self._planned(step, query)
        self._require_enough(len(self._roster), [])  # a step that lost members may be behind us
        for attempt in range(1, MAX_ATTEMPTS + 1):
            kept = self._book.attempt(step, attempt)
            if kept is None:
                order = self._instruct(planned, attempt, query, canaries or Canaries())
            else:
                order = self._take_up(kept, planned, query)
                if kept.opened is not None:
                    self.sums.append(kept.opened)
                    return kept.opened
                if kept.left is not None:
                    self._roster = kept.left
                    continue
            self._on_event(f"{step}: {len(self._roster)} members are asked")
            answers, absent = self._collect(order)
            if not absent:
                return self._open(order, answers)
            self._roster = tuple(member for member in self._roster if member in answers)
            self._book.failed(step, attempt, self._roster)
            told = f"{step}: attempt {attempt} failed, {len(absent)} absent"
            self._on_event(f"{told} ({self._reasons(absent[:5])})")
            self._require_enough(len(self._roster), absent)
        raise FederationError(
            f"{step}: {MAX_ATTEMPTS} attempts failed; members keep falling away.",
            remedy="Wait until the members are reachable and start a new run.",
        )

    def note(self, text: str) -> None:
        """Tell whoever watches the run."""
        self._on_event(text)

    def end(self) -> None:
        """Let the members delete their keys for this run. Silence is no matter."""
        nodes = list(self._node_of.values())
        self._courier.ask(END, {REQUEST: self._request.encoded}, nodes, END_SECONDS)

    def noise_ahead(self, step: str, delta: float) -> float:
        """The σ, in natural units, that the next attempt at `step` would have at sensitivity Δ."""
        units = self._affordable(self._planned(step, None))
        rules, members = self.study.roster, len(self._roster)
        federated = math.sqrt(members / (members - rules.max_colluders))
        return self.study.max_clients_per_customer * delta * federated / accounting.mu(units)

    def _planned(self, name: str, query: Query | None) -> PlanStep:
        step = self.study.step(name)
        done = any(opened.step == name for opened in self.sums)
        if step is None or done or (query is not None and not self._fits(step, query)):
            raise FederationError(
                f"The plan has no such sum left: {name!r}.",
                remedy="Each step of the study's plan is one sum of its query.",
            )
        return step

    def _fits(self, step: PlanStep, query: Query) -> bool:
        """Whether it is the step's query, of the customers for whom the plan prices the step."""
        return step.query == query.name and self.study.side(step) is book_side(
            self.study, query.counts
        )

    def _filter(self, side: BookSide) -> accounting.GaussianFilter:
        """The study's budget for the customers of one side."""
        return accounting.GaussianFilter(self.study.mu2_units, self._spent.on(side))

    def _affordable(self, step: PlanStep) -> int:
        """The step's part of what its side has left, shared among the side's steps that are not
        done; never above plan.

        Raises:
            BudgetError: failed attempts left too little for a sum that would tell anything.
        """
        done, side = {opened.step for opened in self.sums}, self.study.side(step)
        ahead = sum(
            s.exact_share
            for s in self.study.plan
            if s.step not in done and self.study.side(s) is side
        )
        planned = self.study.step_units(step)
        units = min(planned, math.floor(self._filter(side).left * step.exact_share / ahead))
        if units < SMALLEST_PART * planned:
            raise BudgetError(
                f"{step.step}: failed attempts left {units / planned:.0%} of what the plan gives.",
                remedy="Wait until all members are reachable, then agree on a new study.",
            )
        return units

    def _instruct(
        self, step: PlanStep, attempt: int, query: Query, canaries: Canaries
    ) -> Instruction:
        """The next attempt's instruction, with the most precise noise that it can afford."""
        price = {
            "delta_sq": query.delta_sq,
            "multiplicity": self.study.max_clients_per_customer,
            "roster": len(self._roster),
            "colluders": self.study.roster.max_colluders,
        }
        variance = Fraction(0)  # of trained weights: DP-SGD has made its own noise
        if not isinstance(query, TrainedWeights):
            variance = accounting.share_variance(self._affordable(step), **price)
        order = Instruction(
            study=self.study.hash,
            run=self.run,
            transcript=self._known_transcript().hash,
            step=step.step,
            attempt=attempt,
            query=query.name,
            query_version=query.version,
            params=query.params(),
            scale_bits=query.scale_bits,
            variance=(variance.numerator, variance.denominator),
            delta_sq=query.delta_sq,
            colluders=self.study.roster.max_colluders,
            multiplicity=self.study.max_clients_per_customer,
            length=query.length + canaries.count,
            roster=self._roster,
            canaries=canaries,
        )
        self._charge(order, self.study.side(step))
        self._book.asked(order, self.spending)  # before anyone is asked
        return order

    def _take_up(self, kept: KeptAttempt, step: PlanStep, query: Query) -> Instruction:
        """An instruction of the book, charged as it was.

        Raises:
            FederationError: the steps so far lead to another query than the one that was asked.
        """
        order = kept.order
        kept_params, params = map(canonical.encode, (order.params, query.params()))
        if (order.step, order.query, kept_params) != (step.step, query.name, params):
            raise FederationError(
                f"{step.step}: the run asked for another sum than it would ask for now.",
                remedy="Resume it with the version of Kesit and on the machine that began it.",
            )
        self._charge(order, self.study.side(step))
        return order

    def _charge(self, order: Instruction, side: BookSide) -> None:
        """Enter an attempt in the server's own books."""
        if order.query == TRAINED:
            self._enter(order, 0, side, self.pot.charge(order))
            return
        units = accounting.charge_units(
            share_variance=order.share_variance,
            delta_sq=order.delta_sq,
            multiplicity=order.multiplicity,
            roster=len(order.roster),
            colluders=order.colluders,
        )
        self._filter(side).charge(units)
        self._spent = self._spent.plus(units, side)
        self._enter(order, units, side)

    def _enter(
        self, order: Instruction, units: int, side: BookSide, trained: Event | None = None
    ) -> None:
        self.orders.append(order)
        self.spending.append(
            Spending(
                self.study.hash,
                self.study.purpose,
                self.run,
                order.step,
                order.attempt,
                canonical.digest(order.encode()).hex(),
                units,
                order.roster,
                side,
                trained,
            )
        )

    def _collect(
        self, order: Instruction
    ) -> tuple[dict[str, WordArray], list[tuple[str, Reply | None]]]:
        fields = {REQUEST: order.encode(), TRANSCRIPT: self._known_transcript().encoded}
        nodes = [self._node_of[member] for member in order.roster]
        replies = self._courier.ask(SUM, fields, nodes)
        answers: dict[str, WordArray] = {}
        absent: list[tuple[str, Reply | None]] = []
        for member in order.roster:
            reply = replies.get(self._node_of[member])
            if reply is None or reply.code is not RefusalCode.OK:
                absent.append((member, reply))
                continue
            try:
                answers[member] = unpack_words(reply.payload, order.length)
            except ProtocolError:
                absent.append((member, Reply(RefusalCode.INTERNAL, b"")))
        return answers, absent

    def _open(self, order: Instruction, answers: dict[str, WordArray]) -> NoisySum:
        total = open_sum([answers[member] for member in order.roster])
        size = order.length - order.canaries.count
        sigma = math.sqrt(len(order.roster) * order.share_variance) / 2.0**order.scale_bits
        opened = NoisySum(
            order.step,
            total[:size] / 2.0**order.scale_bits,
            sigma,
            len(order.roster),
            order.attempt,
            total[size:],
        )
        self.sums.append(opened)
        self._book.opened(opened)
        return opened

    def _check_enrolled(self, node: int, hello: Hello) -> None:
        """Refuse a hello in another's name, or of nobody's.

        Raises:
            ProtocolError: the node's key was admitted for another identity, or not at all.
        """
        if self._enrolled is not None and self._enrolled.get(node) != hello.identity:
            raise ProtocolError(
                f"node {node} answers as {hello.identity[:16]}, who is not enrolled there.",
                remedy="Admit that member's own request, or revoke the node.",
            )

    def _require_enough(self, present: int, absent: list[tuple[str, Reply | None]]) -> None:
        if present >= self.study.roster.min_size:
            return
        reasons = self._reasons(absent[:10])
        raise FederationError(
            f"{present} members are left, the study needs {self.study.roster.min_size}"
            f" ({reasons or 'the others fell away, or are not connected'}).",
            remedy="Solve what keeps them away, or agree on a smaller roster.min_size.",
        )

    def _reasons(self, absent: list[tuple[str, Reply | None]]) -> str:
        told = [(self._names.get(who, who[:16]), _reason(reply)) for who, reply in absent]
        return "; ".join(f"{who} {why}" for who, why in told)

    def _check_silence(self) -> None:
        expected = len(self._roster) * self.study.roster.silence_probability
        if expected > LARGEST_EXPECTED_SILENCE and not self._simulated:
            raise FederationError(
                f"{len(self._roster)} members at a silence probability of"
                f" {self.study.roster.silence_probability:g} would need too many retries.",
                remedy="Use fewer or more reliable members; larger rosters are for simulation.",
            )

    def _known_transcript(self) -> Transcript:
        if self._transcript is None:
            raise FederationError("There was no hello yet.", remedy="Call hello() first.")
        return self._transcript


def _reason(reply: Reply | None) -> str:
    return "was silent" if reply is None else f"refused: {MEANING.get(reply.code, reply.code.name)}"
