"""Builders that tests share: small studies, small federations, and instructions made by hand."""

from __future__ import annotations

import secrets
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from kesit_client.node import Node
from kesit_privacy import accounting, canonical
from kesit_privacy import hello as hello_form
from kesit_privacy.features import GRID, CodeArray, IntArray
from kesit_privacy.hello import Hello, HelloRequest, Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import Instruction
from kesit_privacy.masking import open_sum
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
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
    return Study.from_tables(study_tables(**changes))


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
    """Codes of random customers, missing and unknown values among them."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.integers(0, feature.cells, rows)
        if feature.kind == "categorical"
        else rng.integers(-1, GRID + 1, rows)
        for feature in study.features
    ]
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


def opened(replies: list[bytes], order: Instruction) -> IntArray:
    """The sum of these payloads, opened, in lattice units."""
    return open_sum([unpack_words(payload, order.length) for payload in replies])


def variance(order: Instruction) -> Fraction:
    """The instruction's noise variance a share, squared lattice units."""
    return Fraction(*order.variance)


