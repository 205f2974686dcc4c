"""The researcher's evaluation, against its definitions computed the slow way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, IntArray
from kesit_server.segmentation.segmenter import Segmentation
from kesit_server.segmentation.synopsis import Synopsis
from kesit_simulations import evaluation
from kesit_simulations.evaluation import evaluate
from kit import mixed_study, random_codes


def some_segments(seed: int = 1) -> Segmentation:
    """Three segments at random places of the mixed study's space."""
    space = Embedding.of(mixed_study())
    rng = np.random.default_rng(seed)
    centres = rng.random((3, space.dimensions)) * space.ceiling
    fill = (GRID // 2,) * 5
    codes = random_codes(mixed_study(), 10)
    synopsis = Synopsis(space, codes, np.ones(10), fill, ())
    return Segmentation(mixed_study(), centres, np.full(3, 100.0), 1.0, synopsis)


def slow_inertia(segments: Segmentation, codes: CodeArray) -> tuple[float, IntArray]:
    """Every distance from every row to every centre, in public ranges."""
    rows = segments.space.expand(codes, segments.fill) / GRID
    distances = ((rows[:, None] - segments.centres[None] / GRID) ** 2).sum(axis=2)
    return float(distances.min(axis=1).sum()), distances.argmin(axis=1)


@pytest.mark.parametrize("chunk", [7, 1 << 16])
def test_inertia_and_labels_are_those_of_the_definition(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "CHUNK", chunk)
    segments, codes = some_segments(), random_codes(mixed_study(), 500)
    labels = np.random.default_rng(2).integers(0, 3, 500)
    found = evaluate(segments, codes, labels)
    expected, nearest = slow_inertia(segments, codes)
    assert found.inertia == pytest.approx(expected)
    assert found.adjusted_rand == pytest.approx(adjusted_rand_score(labels, nearest))
    assert found.ratio == pytest.approx(expected / found.inertia_pooled)
    assert found.inertia > found.inertia_pooled  # random centres against fitted ones
    assert (nearest == segments.assign(codes)).all()
    assert not found.sampled
    assert "researcher" in found.note


def test_centres_of_the_pooled_fit_give_ratio_one() -> None:
    codes = random_codes(mixed_study(), 400)
    segments = some_segments()
    pooled = evaluation.fit_pooled(segments.space, segments.fill, codes, 3, seed=5)
    same = replace(segments, centres=pooled.centres * GRID)
    assert evaluate(same, codes, seed=5).ratio == pytest.approx(1.0)


def test_a_pooled_fit_that_is_handed_in_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, segments = random_codes(mixed_study(), 400), some_segments()
    labels = np.random.default_rng(2).integers(0, 3, 400)
    pooled = evaluation.fit_pooled(segments.space, segments.fill, codes, 3, labels, seed=7)
    expected = evaluate(segments, codes, labels, seed=7)
    monkeypatch.setattr(evaluation, "fit_pooled", None)
    assert evaluate(segments, codes, labels, pooled=pooled) == expected


def test_missing_numbers_stand_at_the_mean_of_the_present_ones() -> None:
    codes = random_codes(mixed_study(), 200)
    codes[0, 0], codes[1, 0] = -1, 3000
    fill = evaluation.mean_fill(some_segments().space, codes)
    present = codes[codes[:, 0] >= 0, 0].astype(float)
    assert 0 < len(present) < 200
    assert fill[0] == round(present.mean())
    assert fill[4] == 0  # categorical: a missing level is a level
    codes[:, 1] = -1
    assert evaluation.mean_fill(some_segments().space, codes)[1] == 0


def test_without_labels_there_is_no_agreement() -> None:
    found = evaluate(some_segments(), random_codes(mixed_study(), 100))
    assert found.adjusted_rand is None
    assert found.as_dict()["adjusted_rand_pooled"] is None


def test_many_rows_are_fitted_on_a_seeded_sample_that_is_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "MAX_FIT_ROWS", 60)
    segments, codes = some_segments(), random_codes(mixed_study(), 300)
    found = evaluate(segments, codes, seed=3)
    assert found.as_dict()["sampled"] is True
    assert (found.rows, found.fitted_rows) == (300, 60)
    assert found.inertia == pytest.approx(slow_inertia(segments, codes)[0])  # still over all rows
    assert evaluate(segments, codes, seed=3) == found
    assert evaluate(segments, codes, seed=4).inertia_pooled != found.inertia_pooled


def test_identical_rows_give_no_ratio_instead_of_a_division_by_zero() -> None:
    codes = np.repeat(random_codes(mixed_study(), 1), 50, axis=0)
    found = evaluate(some_segments(), codes)
    assert found.ratio is None
    assert found.inertia > 1
