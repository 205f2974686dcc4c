"""One study on one machine: real data, many nodes, the production ServerApp and ClientApp."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context, RecordDict  # isort: skip
from flwr.serverapp import ServerApp  # isort: skip

from kesit_client.app import make_app as make_client_app
from kesit_client.errors import DataError, Problem
from kesit_client.ledger.store import Store
from kesit_client.neural.training import REMEDY, missing
from kesit_client.node import Node
from kesit_client.rows.coding import check, encode
from kesit_client.rows.sources import FileSource
from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import StudyError
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.identity import Identity
from kesit_privacy.study import Study
from kesit_server.analysis import Finding, Told, present
from kesit_server.app import Coordination, result_files
from kesit_server.app import make_app as make_server_app
from kesit_server.classification.classifier import Classifier
from kesit_server.classification.evaluated import Evaluated
from kesit_server.classification.judging.released import Released, require
from kesit_server.classification.telling.card import ModelCard
from kesit_server.courier import Patience
from kesit_server.federation import Federation
from kesit_server.portrait.portrait import Portrait
from kesit_server.segmentation.segmenter import Segmentation
from kesit_simulations import datasets, ray_backend
from kesit_simulations.errors import SimulationError
from kesit_simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from kesit_simulations.members import Members, derived_identity, misses
from kesit_simulations.plan import SimulationPlan, divide


@dataclass(frozen=True)
class Customers:
    """All customers of a simulation, coded, and who holds which.

    Attributes:
        codes: (customers, features); parts: row numbers of each client.
        labels: true labels if the data set has any, shape (customers,).
    """

    codes: CodeArray
    parts: tuple[IntArray, ...]
    labels: IntArray | None = None


@dataclass(frozen=True)
class Table:
    """A simulation's customers, read, checked and coded, before they are divided.

    Attributes:
        frame: (customers, columns) as they were read; codes: (customers, features).
        labels: (customers,) true labels, if the data set has any, and their column.
    """

    frame: pl.DataFrame
    codes: CodeArray
    labels: IntArray | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class SimulationResult:
    """What a simulated study gave, and how long it took.

    Attributes:
        seed: of the portrait's redraws; identity: the simulated server's key.
    """

    found: Finding
    federation: Federation
    identity: Identity
    seed: int
    seconds: float

    @property
    def segments(self) -> Segmentation:
        """The segments of a segmentation study."""
        assert isinstance(self.found, Segmentation)
        return self.found

    @property
    def classifier(self) -> Classifier:
        """The model of a classifier's study."""
        assert isinstance(self.found, Classifier)
        return self.found

    @property
    def evaluated(self) -> Evaluated:
        """What a study that trains nothing found of a released model."""
        assert isinstance(self.found, Evaluated)
        return self.found

    @cached_property
    def told(self) -> Told:
        """Cards and all that is told. Takes seconds for segments, so it waits to be asked."""
        return present(self.found, np.random.default_rng([self.seed, 4]))

    @property
    def portrait(self) -> Portrait:
        """What is told of segments."""
        assert isinstance(self.told, Portrait)
        return self.told

    @property
    def card(self) -> ModelCard:
        """What is told of a model."""
        assert isinstance(self.told, ModelCard)
        return self.told

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The files of the result folder."""
        return result_files(self.federation, self.told, self.identity)


@dataclass(frozen=True)
class Watcher:
    """Who is told what happens: lines of text, and (answered, asked) of each message round."""

    on_event: Callable[[str], None] = field(default=lambda text: None)
    on_reply: Callable[[int, int], None] = field(default=lambda answered, asked: None)


def load_customers(study: Study, plan: SimulationPlan, base: Path = Path()) -> Customers:
    """Read, check, code and divide a simulation's data. Relative files are relative to `base`.

    Raises:
        KesitError: the data do not fit the study; the error says where and what would help.
    """
    table = load_table(study, plan, base)
    check_distinct(study, table.codes)
    return divide_table(study, plan, table)


def load_table(study: Study, plan: SimulationPlan, base: Path = Path()) -> Table:
    """Read, check and code a simulation's data; see `load_customers`.

    What is checked is what all divisions and all numbers of segments share.
    """
    if plan.data in datasets.names():
        dataset = datasets.load(plan.data)
        return _code(study, plan, dataset.frame, dataset.id_column, dataset.label_column)
    id_column = _id_column(plan)
    source = FileSource(base / plan.data, id_column)
    extra = [plan.column] if plan.column else []
    names = [feature.name for feature in study.features]
    frame = source.read([*names, *(name for name in extra if name not in names)])
    return _code(study, plan, frame, id_column, None)


def code_customers(
    study: Study,
    plan: SimulationPlan,
    frame: pl.DataFrame,
    id_column: str,
    label_column: str | None = None,
) -> Customers:
    """Check, code and divide a table of customers.

    Raises:
        KesitError: the table does not fit the study; the error says where and what would help.
    """
    table = _code(study, plan, frame, id_column, label_column)
    check_distinct(study, table.codes)
    return divide_table(study, plan, table)


def divide_table(study: Study, plan: SimulationPlan, table: Table) -> Customers:
    """The table's customers, divided among clients as the plan says.

    Raises:
        KesitError: they cannot be divided so, or among too few clients for the study.
    """
    parts = divide(plan, table.frame, table.label_column)
    if len(parts) < study.roster.min_size:
        raise StudyError(
            "simulation.clients",
            f"{len(parts)} clients are fewer than the study's roster.min_size of"
            f" {study.roster.min_size}.",
            remedy="Simulate more clients, or agree on a smaller roster.min_size.",
        )
    return Customers(table.codes, tuple(parts), table.labels)


def _code(
    study: Study,
    plan: SimulationPlan,
    frame: pl.DataFrame,
    id_column: str,
    label_column: str | None,
) -> Table:
    absent = [feature for feature in study.features if feature.name not in frame.columns]
    if absent:
        raise DataError(
            [
                Problem(
                    feature.name,
                    f"is no column of {plan.data}.",
                    f"Its columns are: {', '.join(frame.columns)}.",
                )
                for feature in absent
            ]
        )
    problems = check(frame, study, id_column)
    if problems:
        raise DataError(problems)
    codes = encode(frame, study, id_column)
    labels = None
    if label_column is not None:
        labels = np.unique(frame[label_column].to_numpy(), return_inverse=True)[1].astype(np.int64)
    return Table(frame, codes, labels, label_column)


def _id_column(plan: SimulationPlan) -> str:
    if plan.id_column is None:
        raise StudyError(
            "simulation.id_column",
            f"is missing, and {plan.data!r} is no known data set.",
            remedy="Name the column that tells the file's customers apart; or use one of the data"
            f" sets: {', '.join(datasets.names())}.",
        )
    return plan.id_column


def count_distinct(study: Study, codes: CodeArray) -> int:
    """Number of customers that the study's segmentation can tell apart."""
    return len(np.unique(codes[:, list(Embedding.of(study).columns)], axis=0))


def check_distinct(study: Study, codes: CodeArray, distinct: int | None = None) -> None:
    """Refuse a k that the data cannot fill.

    Args:
        distinct: `count_distinct` of these, if it is known.

    Raises:
        DataError: fewer distinct customers than segments.
    """
    if study.segmentation is None:
        return  # a classifier needs no distinct customers
    if distinct is None:
        distinct = count_distinct(study, codes)
    if distinct < study.segmenting.k:
        raise DataError(
            [
                Problem(
                    "segmentation.k",
                    f"the data hold {distinct} distinct customers, fewer than"
                    f" k = {study.segmenting.k}.",
                    "Choose a smaller k, or finer features.",
                )
            ]
        )


def require_training(study: Study) -> None:
    """Refuse a study whose members train where they cannot, before any sum is asked.

    In a simulation all members are this machine.

    Raises:
        SimulationError: torch or Opacus is not installed.
    """
    absent = missing() if study.training is not None else []
    if absent:
        raise SimulationError(
            "The study trains a neural network at its members, here all on this machine, and"
            f" {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed.",
            remedy=REMEDY,
        )


def simulate(
    study: Study,
    plan: SimulationPlan,
    customers: Customers,
    watcher: Watcher | None = None,
    released: Released | None = None,
) -> SimulationResult:
    """Run the study once, on the engine that the plan names.

    Args:
        released: the model that is evaluated, for a study that trains none.

    Raises:
        KesitError: the budget is too small, too few clients answer, or Ray or Opacus is to run and
            cannot.
    """
    watcher = watcher or Watcher()
    require_training(study)
    recipes.check_budget(study)
    require(study, released)
    started = time.perf_counter()
    server = derived_identity(plan.seed, "server", 0)
    outcome: list[tuple[Federation, Finding]] = []
    coordination = Coordination(
        study=study,
        identity=server,
        finish=lambda federation, found: outcome.append((federation, found)),
        patience=ray_backend.PATIENCE if plan.backend == "ray" else Patience(seconds=0, asks=1),
        simulated=True,
        seed=plan.seed,
        released=released,
        on_event=watcher.on_event,
        on_reply=watcher.on_reply,
    )
    app = make_server_app(lambda context: coordination)
    if plan.backend == "ray":
        watcher.on_event("Ray is starting")
        rows = [customers.codes[part] for part in customers.parts]
        ray_backend.run(app, study, plan, server.public, rows, watcher.on_event)
    else:
        _run_in_process(app, study, plan, customers, server.public)
    federation, found = outcome[0]
    seconds = time.perf_counter() - started
    return SimulationResult(found, federation, server, plan.seed, seconds)


def _run_in_process(
    app: ServerApp, study: Study, plan: SimulationPlan, customers: Customers, server: str
) -> None:
    nodes = make_nodes(study, plan, customers, server)
    messages = [itertools.count() for _ in nodes]

    def silent(node: int, kind: str) -> bool:
        place = node - SERVER_NODE - 1
        return misses(plan, place, next(messages[place]))

    grid = InProcessGrid(
        make_client_app(lambda context: nodes[int(str(context.node_config["partition-id"]))]),
        [SERVER_NODE + 1 + place for place in range(len(nodes))],
        serialise=plan.serialise,
        silent=silent,
    )
    try:
        app(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}))
    finally:
        for node in nodes:
            node.store.close()


def make_nodes(study: Study, plan: SimulationPlan, customers: Customers, server: str) -> list[Node]:
    """The clients of a simulation, with books in memory and the study approved."""
    members = Members.of(study, plan, len(customers.parts), server)
    nodes = [
        members.node(place, customers.codes[part], Store.in_memory())
        for place, part in enumerate(customers.parts)
    ]
    for node in nodes:
        node.approve(study)
    return nodes
