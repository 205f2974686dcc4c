"""A rehearsal: the study gone through again with its synopsis in the customers' place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import BudgetError
from kesit_privacy.study import Study
from kesit_server.segmentation.lloyd import round_centres
from kesit_server.segmentation.rehearsal import Rehearsal
from kesit_server.segmentation.responses import responses
from kesit_server.segmentation.segmenter import Segmentation, refine, segment, start
from kit import mixed_study, random_codes, small_study
from stand_in import Pooled

PLANS = {
    "grid": (small_study, recipes.GRID_PLAN),
    "grid alone": (small_study, recipes.GRID_ALONE_PLAN),
    "codebook": (mixed_study, recipes.CODEBOOK_PLAN),
}
NAMES = pytest.mark.parametrize("name", PLANS)


def study_of(name: str) -> Study:
    build, plan = PLANS[name]
    return replace(build(), plan=plan)


def segmented(name: str, *, noisy: bool = True, sigma: float = 6.0) -> tuple[Pooled, Segmentation]:
    study = study_of(name)
    rng = np.random.default_rng(1) if noisy else None
    sigmas = {step.step: sigma for step in study.plan}
    federation = Pooled(study, random_codes(study, 3000), sigmas, rng=rng)
    return federation, segment(federation, np.random.default_rng(2))


def rehearsal_of(segments: Segmentation, seed: int = 3, *, noisy: bool = True) -> Rehearsal:
    return Rehearsal(segments.study, segments.synopsis, noisy, np.random.default_rng(seed))


@NAMES
def test_it_goes_through_the_steps_before_the_evaluation_with_their_noise(name: str) -> None:
    """And asks no federation: the run's own answers are all it has."""
    federation, segments = segmented(name)
    asked = list(federation.asked)
    again = rehearsal_of(segments)
    rng = np.random.default_rng(4)
    k = len(segments.centres)
    found = refine(again, start(again, Embedding.of(segments.study), rng), k, rng)
    steps = [(one.step, one.sigma) for one in segments.synopsis.released]
    assert [(one.step, one.sigma) for one in found.synopsis.released] == steps
    assert [step for step, _ in steps] == [s.step for s in segments.study.plan[:-1]]
    assert federation.asked == asked


@NAMES
def test_its_answers_are_the_synopsis_own_and_noise_of_the_released_sigma(name: str) -> None:
    """The first sum, many times over; 4.9 standard errors: a fresh seed fails with p < 2e-6."""
    _, segments = segmented(name)
    first = segments.synopsis.released[0]
    own = responses(first.query, segments.synopsis.codes).T @ segments.synopsis.weights
    again = rehearsal_of(segments)
    drawn = np.concatenate([again.sum(first.step, first.query).values - own for _ in range(100)])
    assert len(drawn) > 2000
    assert abs(math.sqrt((drawn**2).mean()) / 6.0 - 1) < 4.9 / math.sqrt(2 * len(drawn))
    assert abs(drawn.mean()) < 4.9 * 6.0 / math.sqrt(len(drawn))


@NAMES
def test_without_noise_a_rehearsal_has_none(name: str) -> None:
    _, segments = segmented(name, noisy=False)
    assert segments.size_sigma == 0
    first = segments.synopsis.released[0]
    own = responses(first.query, segments.synopsis.codes).T @ segments.synopsis.weights
    opened = rehearsal_of(segments, noisy=False).sum(first.step, first.query)
    np.testing.assert_array_equal(opened.values, own)
    if name != "codebook":  # a grid's restarts find the same optimum; marginals are drawn from
        one, other = (segments.rehearsed(np.random.default_rng(seed)) for seed in (1, 2))
        np.testing.assert_allclose(np.sort(one, axis=0), np.sort(other, axis=0), atol=150)


@NAMES
def test_rehearsed_centres_are_segments_of_the_same_study(name: str) -> None:
    _, segments = segmented(name)
    one, other = (segments.rehearsed(np.random.default_rng(seed)) for seed in (1, 2))
    for centres in (one, other):
        assert centres.shape == segments.centres.shape
        np.testing.assert_array_equal(centres, round_centres(centres, segments.space))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, segments.rehearsed(np.random.default_rng(1)))


def test_a_step_that_was_not_afforded_is_not_rehearsed() -> None:
    study = study_of("codebook")
    sigmas = {step.step: 6.0 for step in study.plan}
    federation = Pooled(
        study,
        random_codes(study, 3000),
        sigmas,
        rng=np.random.default_rng(1),
        unaffordable=("lloyd-2",),
    )
    segments = segment(federation, np.random.default_rng(2))
    again = rehearsal_of(segments)
    assert again.noise_ahead("lloyd-1", 2.0) == 12.0
    with pytest.raises(BudgetError, match="lloyd-2 was not released"):
        again.noise_ahead("lloyd-2", 1.0)
    rng = np.random.default_rng(4)
    found = refine(again, start(again, segments.space, rng), 3, rng)
    assert [one.step for one in found.synopsis.released][-1] == "lloyd-1"
