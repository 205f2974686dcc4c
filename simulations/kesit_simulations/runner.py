"""One study on one machine: real data, many nodes, the production ServerApp and ClientApp."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context, RecordDict  # isort: skip

from kesit_client.app import make_app as make_client_app
from kesit_client.cache import ArrayRows, Rows
from kesit_client.coding import check, encode
from kesit_client.errors import DataError, Problem
from kesit_client.node import Node
from kesit_client.policy import Lifetime, Policy
from kesit_client.sources import FileSource
from kesit_client.store import Store
from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import StudyError
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.identity import Identity
from kesit_privacy.noise import NoiseSource, NoNoise, SecureNoise, SeededNoise
from kesit_privacy.study import Study
from kesit_server.app import Coordination, result_files
from kesit_server.app import make_app as make_server_app
from kesit_server.courier import Patience
from kesit_server.federation import Federation
from kesit_server.segmentation import Segmentation
from kesit_simulations import datasets
from kesit_simulations.grid import RUN_ID, SERVER_NODE, InProcessGrid
from kesit_simulations.plan import SimulationPlan, divide

LIFETIME_EPSILON = 100.0


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
class SimulationResult:
    """What a simulated study gave: segments, the files of its result folder, and its cost."""

    segments: Segmentation
    files: dict[str, bytes]
    federation: Federation
    seconds: float


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
    if plan.data in datasets.names():
        dataset = datasets.load(plan.data)
        frame, id_column, label_column = dataset.frame, dataset.id_column, dataset.label_column
    else:
        id_column, label_column = _id_column(plan), None
        source = FileSource(base / plan.data, id_column)
        extra = [plan.column] if plan.column else []
        names = [feature.name for feature in study.features]
        frame = source.read([*names, *(name for name in extra if name not in names)])
    return code_customers(study, plan, frame, id_column, label_column)


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
    check_distinct(study, codes)
    labels = None
    if label_column is not None:
        labels = np.unique(frame[label_column].to_numpy(), return_inverse=True)[1].astype(np.int64)
    parts = divide(plan, frame, label_column)
    if len(parts) < study.roster.min_size:
        raise StudyError(
            "simulation.clients",
            f"{len(parts)} clients are fewer than the study's roster.min_size of"
            f" {study.roster.min_size}.",
            remedy="Simulate more clients, or agree on a smaller roster.min_size.",
        )
    return Customers(codes, tuple(parts), labels)


def _id_column(plan: SimulationPlan) -> str:
    if plan.id_column is None:
        raise StudyError(
            "simulation.id_column",
            f"is missing, and {plan.data!r} is no known data set.",
            remedy="Name the column that tells the file's customers apart; or use one of the data"
            f" sets: {', '.join(datasets.names())}.",
        )
    return plan.id_column


def check_distinct(study: Study, codes: CodeArray) -> None:
    """Refuse a k that the data cannot fill.

    Raises:
        DataError: fewer distinct customers than segments.
    """
    distinct = len(np.unique(codes[:, list(Embedding.of(study).columns)], axis=0))
    if distinct < study.segmentation.k:
        raise DataError(
            [
                Problem(
                    "segmentation.k",
                    f"the data hold {distinct} distinct customers, fewer than"
                    f" k = {study.segmentation.k}.",
                    "Choose a smaller k, or finer features.",
                )
            ]
        )


def simulate(
    study: Study, plan: SimulationPlan, customers: Customers, watcher: Watcher | None = None
) -> SimulationResult:
    """Run the study once.

    Raises:
        KesitError: the budget is too small, or too few clients answer.
    """
    watcher = watcher or Watcher()
    recipes.check_budget(study)
    started = time.perf_counter()
    server = _identity(plan.seed, "server", 0)
    nodes = make_nodes(study, plan, customers, server.public)
    ids = [SERVER_NODE + 1 + place for place in range(len(nodes))]
    chance = np.random.default_rng([plan.seed, 2])
    grid = InProcessGrid(
        make_client_app(lambda context: nodes[int(str(context.node_config["partition-id"]))]),
        ids,
        serialise=plan.serialise,
        silent=lambda node, kind: plan.silence > 0 and chance.random() < plan.silence,
    )
    outcome: list[tuple[Federation, Segmentation]] = []
    coordination = Coordination(
        study=study,
        identity=server,
        finish=lambda federation, segments: outcome.append((federation, segments)),
        patience=Patience(seconds=0, asks=1),
        simulated=True,
        seed=plan.seed,
        on_event=watcher.on_event,
        on_reply=watcher.on_reply,
    )
    app = make_server_app(lambda context: coordination)
    app(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), {}))
    for node in nodes:
        node.store.close()
    federation, segments = outcome[0]
    files = result_files(federation, segments, server)
    return SimulationResult(segments, files, federation, time.perf_counter() - started)


def make_nodes(study: Study, plan: SimulationPlan, customers: Customers, server: str) -> list[Node]:
    """The clients of a simulation: identities, policies and books of their own, data by parts."""
    identities = [_identity(plan.seed, "client", place) for place in range(len(customers.parts))]
    policy = _policy(study, plan, server, [identity.public for identity in identities])
    nodes = []
    for place, (identity, part) in enumerate(zip(identities, customers.parts, strict=True)):
        node = Node(
            identity=identity,
            policy=policy,
            store=Store.in_memory(),
            studies={},
            rows=_rows(customers.codes[part]),
            noise=_noise(plan, place),
            masked=plan.masks,
            simulated=True,
        )
        node.approve(study)
        nodes.append(node)
    return nodes


def _policy(study: Study, plan: SimulationPlan, server: str, identities: Sequence[str]) -> Policy:
    return Policy(
        purposes=(study.purpose,),
        features=tuple(feature.name for feature in study.features),
        queries=tuple(sorted({step.query for step in study.plan})),
        min_roster=study.roster.min_size,
        servers=(server,),
        peers={f"client-{place + 1}": identity for place, identity in enumerate(identities)},
        lifetime=Lifetime(LIFETIME_EPSILON, study.delta),
        min_customers=plan.min_customers,
    )


def _rows(codes: CodeArray) -> Callable[[Study], Rows]:
    rows = ArrayRows(codes)
    return lambda study: rows


def _noise(plan: SimulationPlan, place: int) -> NoiseSource:
    if plan.noise == "secure":
        return SecureNoise()
    return SeededNoise(plan.seed, 3, place) if plan.noise == "seeded" else NoNoise()


def _identity(seed: int, role: str, place: int) -> Identity:
    """A repeatable key. It protects nothing: simulated hellos are refused by real nodes."""
    return Identity.from_seed(hashlib.sha256(f"{role}:{seed}:{place}".encode()).digest())
