"""Builders that tests share: small studies, small federations, and instructions made by hand."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_client.rows.cache import Rows
from kesit_privacy import accounting, canonical
from kesit_privacy import hello as hello_form
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import KesitError
from kesit_privacy.features import GRID, CodeArray, IntArray
from kesit_privacy.hello import Hello, HelloRequest, Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import SCALE_BITS, Instruction
from kesit_privacy.masking import WordArray, open_sum
from kesit_privacy.queries import ClusterSums, Evaluation, Grid, Marginals, Query
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS
from kesit_privacy.wire import RefusalCode, read_reply, unpack_words
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, make_nodes

SERVER = Identity.from_seed(bytes(32))


def study_tables(**changes: Any) -> dict[str, Any]:
    """Parsed TOML of a small study: two numeric features (a joint grid), k = 3."""
    tables: dict[str, Any] = {
        "name": "small",
        "purpose": "customer-segmentation",
        "legal_basis": "explicit-consent",
        "epsilon": 1.0,
        "delta": 1e-5,
        "declared_customers": 3000,
        "segmentation": {"k": 3},
        "features": [
            {"kind": "numeric", "name": "x", "lower": 0.0, "upper": 1.0},
            {"kind": "numeric", "name": "y", "lower": 0.0, "upper": 1.0},
        ],
    }
    return tables | changes


def small_study(**changes: Any) -> Study:
    """The study of `study_tables`."""
    return study_from_tables(study_tables(**changes))


def mixed_study(**changes: Any) -> Study:
    """A study with four numeric features, one of them signed-log, and one categorical."""
    features: list[dict[str, Any]] = [
        {"kind": "numeric", "name": name, "lower": 0.0, "upper": 1.0} for name in ("a", "b", "c")
    ]
    features.append(
        {
            "kind": "numeric",
            "name": "income",
            "lower": -100.0,
            "upper": 1e6,
            "transform": "signed-log",
        }
    )
    features.append({"kind": "categorical", "name": "channel", "levels": ["web", "shop", "phone"]})
    return small_study(**({"features": features} | changes))


def random_codes(study: Study, rows: int, seed: int = 0) -> CodeArray:
    """Codes of random customers, missing and unknown values among them; parts for a classifier."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, feature.cells, rows)
        if feature.kind == "categorical"
        else rng.integers(-1, GRID + 1, rows)
        for feature in study.features
    ]
    if study.classification is not None:
        columns.append(rng.integers(0, PARTS, rows))
    return np.stack(columns, axis=1).astype(np.int16)


def small_nodes(study: Study, codes: CodeArray, clients: int = 4, **plan: Any) -> list[Node]:
    """Simulated nodes with equal parts of `codes`; noise off unless `noise=` says otherwise."""
    simulation = SimulationPlan(data="none", clients=clients, **({"noise": "off"} | plan))
    parts: list[IntArray] = [
        part.astype(np.int64) for part in np.array_split(np.arange(len(codes)), clients)
    ]
    return make_nodes(study, simulation, Customers(codes, tuple(parts)), SERVER.public)


def say_hello(study: Study, nodes: list[Node], run: str | None = None) -> Transcript:
    """All nodes' hellos to one run, gathered."""
    request = HelloRequest(study.hash, run or secrets.token_hex(16), SERVER.public)
    hellos = []
    for node in nodes:
        code, payload = read_reply(node.hello(request.encoded))
        assert code is RefusalCode.OK, code
        hellos.append(Hello.from_value(canonical.decode(payload)))
    return hello_form.gather(request, hellos)


def instruct(
    study: Study, transcript: Transcript, step: str, query: Query, **changes: Any
) -> Instruction:
    """An honest server's instruction for the first attempt at a step, with `changes` on top."""
    roster = tuple(changes.get("roster", sorted(transcript.by_identity)))
    planned = study.step(step)
    assert planned is not None
    variance = accounting.share_variance(
        study.step_units(planned),
        delta_sq=query.delta_sq,
        multiplicity=study.max_clients_per_customer,
        roster=len(roster),
        colluders=study.roster.max_colluders,
    )
    order = Instruction(
        study=study.hash,
        run=transcript.request.run,
        transcript=transcript.hash,
        step=step,
        attempt=1,
        query=query.name,
        query_version=query.version,
        params=query.params(),
        scale_bits=query.scale_bits,
        variance=(variance.numerator, variance.denominator),
        delta_sq=query.delta_sq,
        colluders=study.roster.max_colluders,
        multiplicity=study.max_clients_per_customer,
        length=query.length,
        roster=roster,
    )
    return replace(order, **changes)


def ask(
    node: Node, order: Instruction | bytes, transcript: Transcript
) -> tuple[RefusalCode, bytes]:
    """A node's reply to an instruction: code and payload."""
    data = order if isinstance(order, bytes) else order.encode()
    return read_reply(node.answer(data, transcript.encoded))


def attempt(order: Instruction, number: int, roster: Iterable[str], **changes: Any) -> Instruction:
    """A later attempt, with noise enough for any roster of three or more."""
    changes = {"variance": (4 * order.variance[0], 1)} | changes
    return replace(order, attempt=number, roster=tuple(sorted(roster)), **changes)


def opened(replies: list[bytes], order: Instruction) -> IntArray:
    """The sum of these payloads, opened, in lattice units."""
    return open_sum([unpack_words(payload, order.length) for payload in replies])


def variance(order: Instruction) -> Fraction:
    """The instruction's noise variance a share, squared lattice units."""
    return Fraction(*order.variance)


def keep_books(node: Node, path: Path) -> None:
    """Give a node books on disk, in which its studies are approved."""
    node.store = Store.open(path)
    for study in list(node.studies.values()):
        node.approve(study)


def restarted(node: Node, path: Path) -> Node:
    """The node as a new process would find it: books from the file, nothing remembered."""
    node.store.close()
    return replace(node, store=Store.open(path), _secrets={})


@dataclass(frozen=True)
class Session:
    """A run after its hello, and an honest instruction for the study's marginals."""

    study: Study
    codes: CodeArray
    nodes: list[Node]
    transcript: Transcript
    query: Query
    order: Instruction

    def exact(self) -> IntArray:
        """The pooled sum, in lattice units."""
        return self.query.sum(self.codes)

    def by_identity(self, identity: str) -> Node:
        """The node of that identity."""
        return next(node for node in self.nodes if node.me == identity)

    def answers(self, order: Instruction) -> list[bytes]:
        """The payloads of the whole roster; every member must answer."""
        replies = [ask(self.by_identity(member), order, self.transcript) for member in order.roster]
        assert {code for code, _ in replies} == {RefusalCode.OK}, [code for code, _ in replies]
        return [payload for _, payload in replies]


def begin(
    study: Study | None = None,
    clients: int = 4,
    rows: int = 40,
    bins: int = 256,
    books: Path | None = None,
    **plan: Any,
) -> Session:
    """A run of `mixed_study` over simulated nodes without noise: what opens, opens exactly.

    The first node keeps its books in the file `books`, if one is given.
    """
    study = study or mixed_study()
    codes = random_codes(study, rows)
    nodes = small_nodes(study, codes, clients, **plan)
    if books is not None:
        keep_books(nodes[0], books)
    transcript = say_hello(study, nodes)
    query = Marginals(Embedding.of(study), bins, SCALE_BITS)
    order = instruct(study, transcript, "marginals", query)
    return Session(study, codes, nodes, transcript, query, order)


def begin_with(*rows: Callable[[Study], Rows]) -> Session:
    """A run of three simulated nodes without noise, the first ones with customers of `rows`."""
    session = begin(clients=3)
    nodes = [
        replace(node, rows=opener, _secrets={})
        for node, opener in zip(session.nodes, rows, strict=False)
    ]
    nodes += session.nodes[len(nodes) :]
    transcript = say_hello(session.study, nodes)
    order = instruct(session.study, transcript, "marginals", session.query)
    return replace(session, nodes=nodes, transcript=transcript, order=order)


def uniformity(words: IntArray | WordArray) -> float:
    """p-value of 64-bit words being uniform: χ² of each half byte, times their number (Bonferroni).

    A test that wants p >= 1e-9 raises a false alarm about once in 10^9 runs: with 1,000 words or
    more each cell expects over 60, enough for χ²'s tail.
    """
    assert len(words) >= 1000
    halves = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), 8)
    columns = [*(halves & 15).T, *(halves >> 4).T]
    p_values = [stats.chisquare(np.bincount(column, minlength=16)).pvalue for column in columns]
    return min(1.0, len(columns) * float(min(p_values)))


def spent(node: Node, study: Study | None = None) -> int:
    """Units in a node's books: of one study, or of all."""
    with node.store.transaction() as books:
        return books.spent(study=None if study is None else study.hash)


def query_for(study: Study, step: str, radius: int = 1000, count_share: int = 10) -> Query:
    """A small query of the kind that the plan's step wants."""
    space = Embedding.of(study)
    planned = study.step(step)
    assert planned is not None
    if planned.query == "marginals":
        return Marginals(space, 4, SCALE_BITS)
    if planned.query == "grid":
        return Grid(space, (4,) * len(space.features), SCALE_BITS)
    centres = tuple((place * 100,) * space.dimensions for place in range(3))
    fill = (0,) * len(space.features)
    if planned.query == "evaluation":
        return Evaluation(space, centres, fill, radius, 4, SCALE_BITS)
    return ClusterSums(space, centres, (radius,) * 3, fill, count_share, SCALE_BITS)


def broken(error: pytest.ExceptionInfo[KesitError]) -> None:
    """An error for a person: a cause that ends, and a remedy."""
    assert error.value.cause.strip()
    assert error.value.remedy.strip()
    assert "\n" not in str(error.value)
