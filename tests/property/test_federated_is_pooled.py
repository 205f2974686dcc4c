"""With noise off, a federation's segmentation is the pooled one, bit for bit, for any partition.

The pooled computation here knows no clients, no lattice words and no masks: it sums each query over
all rows at once and hands the result to the same segmentation, with the same σ (which decides about
thresholds, and depends on the number of members but not on who holds which row).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, IntArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_privacy.study import Study
from kesit_server import federation as federation_module
from kesit_server.segmentation.segmenter import Segmentation, segment
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, simulate
from kit import begin, instruct, mixed_study, opened, random_codes, small_study
from stand_in import Pooled

ROWS = 3000


def planted(study: Study) -> CodeArray:
    """Customers in three groups, a few of them with missing or unknown values."""
    rng = np.random.default_rng(5)
    codes = random_codes(study, ROWS, seed=6)
    group = rng.integers(0, 3, ROWS)
    for column, feature in enumerate(study.features):
        if feature.kind == "numeric":
            spread = rng.normal(np.array([2000, 8000, 14000])[group], 700)
            missing = rng.random(ROWS) < 0.05
            codes[:, column] = np.where(missing, -1, np.clip(spread, 0, GRID))
        else:
            codes[:, column] = np.where(rng.random(ROWS) < 0.9, group, codes[:, column])
    return codes


STUDIES = {"grid": small_study(epsilon=3.0), "marginals": mixed_study(epsilon=3.0)}
CODES = {name: planted(study) for name, study in STUDIES.items()}


def run(
    name: str, parts: tuple[IntArray, ...], monkeypatch: pytest.MonkeyPatch, **plan: Any
) -> tuple[Segmentation, Segmentation]:
    """The segmentation of a federation that holds these parts, and the pooled one."""
    ahead: dict[str, float] = {}
    original = federation_module.Federation.noise_ahead

    def remembered(self: federation_module.Federation, step: str, delta: float) -> float:
        ahead[step] = original(self, step, delta)
        return ahead[step]

    monkeypatch.setattr(federation_module.Federation, "noise_ahead", remembered)
    simulation = SimulationPlan(data="none", clients=len(parts), **({"noise": "off"} | plan))
    result = simulate(STUDIES[name], simulation, Customers(CODES[name], parts))
    sigmas = {opened.step: opened.sigma for opened in result.federation.sums}
    pooled = Pooled(STUDIES[name], CODES[name], sigmas, ahead)
    expected = segment(pooled, np.random.default_rng(simulation.seed))
    assert pooled.steps == [step.step for step in STUDIES[name].plan]
    return result.segments, expected


def check_same(one: Segmentation, other: Segmentation) -> None:
    np.testing.assert_array_equal(one.centres, other.centres)
    np.testing.assert_array_equal(one.sizes, other.sizes)
    assert (one.fill, one.size_sigma) == (other.fill, other.size_sigma)


def cut(ends: list[int], seed: int | None = None) -> tuple[IntArray, ...]:
    rows = np.arange(ROWS)
    if seed is not None:
        rows = np.random.default_rng(seed).permutation(ROWS)
    return tuple(np.split(rows, ends))


PARTITIONS: dict[str, tuple[IntArray, ...]] = {
    "3 in equal parts": cut([1000, 2000]),
    "3 shuffled": cut([1000, 2000], seed=1),
    "3, one with a single row": cut([1, 1500], seed=2),
    "3, one with all rows": cut([0, ROWS]),
    "7 of growing size": cut([10, 50, 200, 500, 1000, 2000], seed=3),
    "45 on a circle of masks": cut(list(range(60, 2700, 60)), seed=4),
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_segmentation_is_the_pooled_one(
    name: str, partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments, pooled = run(name, PARTITIONS[partition], monkeypatch)
    assert pooled.sizes.sum() == pytest.approx(ROWS)
    assert len(np.unique(pooled.centres, axis=0)) == 3
    check_same(segments, pooled)


@pytest.mark.parametrize("name", STUDIES)
def test_who_holds_which_row_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three members, four ways to divide the rows, with and without masks and serialisation."""
    ways = [parts for title, parts in PARTITIONS.items() if title.startswith("3")]
    first, _ = run(name, ways[0], monkeypatch)
    for parts in ways[1:]:
        check_same(run(name, parts, monkeypatch)[0], first)
    check_same(run(name, ways[1], monkeypatch, masks=False)[0], first)
    check_same(run(name, ways[1], monkeypatch, serialise=True)[0], first)


@given(st.lists(st.integers(0, 4), min_size=60, max_size=60), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_one_sum_is_the_pooled_one_for_any_partition(holders: list[int], seed: int) -> None:
    """Some clients hold nothing at all; the opened words are those of the pooled sum."""
    session = begin(clients=5, rows=60, bins=50)
    space = Embedding.of(session.study)
    rng = np.random.default_rng(seed)
    centres = tuple(tuple(map(int, rng.integers(0, GRID, space.dimensions))) for _ in range(5))
    fill = (0,) * len(space.features)
    for node, part in zip(session.nodes, range(5), strict=True):
        rows = node.rows(session.study)
        object.__setattr__(rows, "array", session.codes[np.array(holders) == part])
    query = ClusterSums(space, centres, (3000,) * 5, fill, 30, SCALE_BITS)
    order = instruct(session.study, session.transcript, "cells-1", query)
    np.testing.assert_array_equal(opened(session.answers(order), order), query.sum(session.codes))
    marginals = opened(session.answers(session.order), session.order)
    np.testing.assert_array_equal(marginals, session.exact())
