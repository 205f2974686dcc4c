"""Builders for tests of trainings: a small study that trains, a run of it, a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifierkit import churn_study
from kesit_client import node as node_module
from kesit_client.neural import training
from kesit_client.node import Node
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.hello import Transcript
from kesit_privacy.instruction import Instruction
from kesit_privacy.network import WEIGHT, WEIGHT_BITS, Inputs, Network, size
from kesit_privacy.noise import NoiseSource
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target, held_out
from kit import keep_books, random_codes, say_hello, small_nodes

SMALL = {"hidden": 3, "rounds": 2, "steps": 2, "rate": 0.5}


def neural_study(training: dict[str, Any] | None = None, **changes: Any) -> Study:
    """`churn_study` with a network of three units, trained in two rounds of two steps."""
    table = {"estimator": "neural", "positive": "yes", "bins": 8}
    return churn_study(
        **({"classification": {**table, "training": {**SMALL, **(training or {})}}} | changes)
    )


def coded(study: Study, rows: int, seed: int = 0) -> CodeArray:
    """Random customers, with the parts into which their ids would be hashed."""
    return random_codes(study, rows, seed)


def network(study: Study, seed: int = 0, largest: int = WEIGHT) -> Network:
    """A network of the study's size with random weights."""
    assert study.training is not None
    inputs, logits = Inputs.even(Embedding.of(study)), Target.of(study).logits
    length = size(inputs, study.training.hidden, logits)
    weights = np.random.default_rng(seed).integers(-largest, largest + 1, length)
    return Network(inputs, study.training.hidden, logits, tuple(weights.tolist()))


def training_query(study: Study, model: Network | None = None) -> TrainedWeights:
    """One round, from `model`."""
    model = model or network(study)
    params = {"held": Side(*held_out(study), inside=False).params(), "model": model.params()}
    return TrainedWeights.bind(study, params, WEIGHT_BITS)


@dataclass
class Trainings:
    """A run after its hello, whose nodes train with a stand-in that counts."""

    study: Study
    nodes: list[Node]
    transcript: Transcript
    calls: list[TrainedWeights]

    @property
    def node(self) -> Node:
        """The first node; the one with books on disk, if any has them."""
        return self.nodes[0]

    def order(self, step: str = "train-1", **changes: Any) -> Instruction:
        """An honest instruction to train, with `changes` on top."""
        query = training_query(self.study)
        roster = tuple(sorted(self.transcript.by_identity))
        order = Instruction(
            study=self.study.hash,
            run=self.transcript.request.run,
            transcript=self.transcript.hash,
            step=step,
            attempt=1,
            query=query.name,
            query_version=query.version,
            params=query.params(),
            scale_bits=query.scale_bits,
            variance=(0, 1),
            delta_sq=0,
            colluders=self.study.roster.max_colluders,
            multiplicity=1,
            length=query.length,
            roster=roster,
        )
        return replace(order, **changes)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[TrainedWeights]:
    """Every node trains without torch, by noise alone; the queries it was asked are listed."""
    calls: list[TrainedWeights] = []

    def train(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
        calls.append(query)
        start = np.array(query.model.weights, dtype=np.int64)
        return start + np.random.default_rng().integers(-99, 99, len(start))

    monkeypatch.setattr(node_module, "train", train)
    monkeypatch.setattr(training, "NEEDED", ())
    return calls


def start(
    calls: list[TrainedWeights],
    books: Path | None = None,
    study: Study | None = None,
    change: Callable[[Node], None] = lambda node: None,
) -> Trainings:
    """Four nodes after a hello to a run of `study`."""
    study = study or neural_study()
    nodes = small_nodes(study, coded(study, 40))
    for node in nodes:
        change(node)
    if books is not None:
        keep_books(nodes[0], books)
    return Trainings(study, nodes, say_hello(study, nodes), calls)
