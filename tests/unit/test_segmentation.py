"""The recipe as a whole: its steps, its messages, its choice of k, and what survives a failure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import BudgetError
from kesit_privacy.features import GRID, CodeArray, FloatArray
from kesit_privacy.queries import ClusterSums, Evaluation
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode
from kesit_server.errors import FederationError
from kesit_server.segmentation import codebook
from kesit_server.segmentation.responses import nearest_of
from kesit_server.segmentation.segmenter import Segmentation, segment
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, simulate
from kit import ask, instruct, mixed_study, query_for, random_codes, say_hello, small_study
from runs import Run
from stand_in import Pooled

ROWS = 3000


def with_plan(study: Study, plan: tuple[Any, ...]) -> Study:
    return replace(study, plan=plan)


STUDIES: dict[str, Study] = {
    "grid": with_plan(small_study(), recipes.GRID_PLAN),
    "grid alone": with_plan(small_study(), recipes.GRID_ALONE_PLAN),
    "codebook": with_plan(mixed_study(), recipes.CODEBOOK_PLAN),
    "deep codebook": with_plan(mixed_study(), recipes.DEEP_CODEBOOK_PLAN),
}
NAMES = pytest.mark.parametrize("name", STUDIES)


def in_groups(study: Study, groups: int = 3, seed: int = 0) -> CodeArray:
    """Customers in clearly separate groups along every number."""
    rng = np.random.default_rng(seed)
    codes = random_codes(study, ROWS, seed)
    group = rng.integers(0, groups, ROWS)
    places = np.linspace(2000, 14_000, groups)
    for column, feature in enumerate(study.features):
        if feature.kind == "numeric":
            around = rng.permutation(places)[group] + rng.normal(0, 600, ROWS)
            codes[:, column] = np.clip(around, 0, GRID)
        else:
            codes[:, column] = np.where(rng.random(ROWS) < 0.95, group % 3, codes[:, column])
    return codes


def pooled(study: Study, sigma: float = 3.0, **more: Any) -> Pooled:
    sigmas = {step.step: sigma for step in study.plan}
    return Pooled(study, in_groups(study), sigmas, **more)


def segmented(federation: Pooled, seed: int = 0) -> Segmentation:
    return segment(federation, np.random.default_rng(seed))


def counts_around(segments: Segmentation, centres: FloatArray, codes: CodeArray) -> FloatArray:
    points = segments.space.expand(codes, segments.fill)
    nearest, _ = nearest_of(points, centres)
    counts: FloatArray = np.bincount(nearest, minlength=len(centres)).astype(np.float64)
    return counts


# --- steps and messages --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "smallest_k"),
    [*((name, None) for name in STUDIES), ("grid", 2), ("grid alone", 2), ("codebook", 2)],
)
def test_the_recipe_asks_for_the_steps_of_the_plan_each_once(
    name: str, smallest_k: int | None
) -> None:
    """In the plan's order and with its queries; a choice of k asks for nothing more."""
    study = STUDIES[name]
    study = replace(study, segmentation=replace(study.segmentation, smallest_k=smallest_k))
    federation = pooled(study)
    segmented(federation)
    assert [(step, query.name) for step, query in federation.asked] == [
        (step.step, step.query) for step in study.plan
    ]


@NAMES
def test_a_whole_study_is_eight_messages_a_client(name: str) -> None:
    """Counted by the courier of a real run: hello, the sums, the end; nine with a third level."""
    study, clients = STUDIES[name], 4
    parts = tuple(np.array_split(np.arange(ROWS), clients))
    plan = SimulationPlan(data="none", clients=clients)
    federation = simulate(study, plan, Customers(in_groups(study), parts)).federation
    each = federation.courier.messages / clients
    assert each == 2 + len(study.plan)
    assert each <= 8 + ("cells-3" in recipes.levels(study))


@NAMES
def test_nothing_outside_the_plan_is_summed_or_answered(name: str) -> None:
    """By the server's own books, and by a member that is asked all the same."""
    study = STUDIES[name]
    run = Run(study, 4)
    run.federation.hello()
    last = study.plan[-1]
    for step in ("lloyd-9", "cells-9", "evaluation-2", "grid" if "code" in name else "marginals"):
        with pytest.raises(FederationError, match="no such sum left"):
            run.federation.sum(step, query_for(study, last.step))
    for planned in study.plan:
        other = "evaluation" if planned.query != "evaluation" else study.plan[0].step
        query = query_for(study, other)
        with pytest.raises(FederationError, match="no such sum left"):
            run.federation.sum(planned.step, query)
    assert run.federation.spending == []
    transcript = say_hello(study, run.nodes)
    honest = instruct(study, transcript, last.step, query_for(study, last.step))
    first = instruct(study, transcript, study.plan[0].step, query_for(study, study.plan[0].step))
    node = run.nodes[0]
    for order in (
        replace(honest, step="evaluation-2"),
        replace(first, step=last.step, variance=(100 * first.variance[0], 1)),
        replace(honest, step=study.plan[0].step, variance=(100 * honest.variance[0], 1)),
    ):
        assert ask(node, order, transcript)[0] is RefusalCode.NOT_IN_PLAN
    assert ask(node, honest, transcript)[0] is RefusalCode.OK


@NAMES
def test_the_synopsis_is_made_of_what_was_opened(name: str) -> None:
    """All sums but the evaluation, in order; nothing else is in it."""
    federation = pooled(STUDIES[name])
    segments = segmented(federation)
    released = [(one.step, one.query) for one in segments.synopsis.released]
    assert released == federation.asked[:-1]


# --- the number of segments ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["grid", "codebook"])
@pytest.mark.parametrize(("groups", "smallest", "largest"), [(3, 2, 6), (4, 4, 6), (4, 2, 4)])
def test_k_is_chosen_in_its_range(name: str, groups: int, smallest: int, largest: int) -> None:
    """As many segments as there are groups, both ends of the range included in what is tried."""
    study = STUDIES[name]
    chosen = replace(study.segmentation, k=largest, smallest_k=smallest)
    federation = pooled(replace(study, segmentation=chosen))
    federation.codes = in_groups(study, groups)
    segments = segmented(federation)
    assert segments.choice is not None
    assert segments.choice.k == len(segments.centres) == len(segments.sizes) == groups
    tried = [candidate.k for candidate in segments.choice.curve]
    assert tried == list(range(smallest, largest + 1))


@NAMES
def test_a_fixed_k_is_kept(name: str) -> None:
    study = STUDIES[name]
    federation = pooled(replace(study, segmentation=replace(study.segmentation, k=5)))
    segments = segmented(federation)
    assert segments.choice is None
    assert len(segments.centres) == 5


# --- the evaluation ------------------------------------------------------------------------------


@NAMES
def test_sizes_are_those_of_the_final_centres(name: str) -> None:
    """Exactly, without noise: the evaluation is asked around the centres that are released."""
    federation = pooled(STUDIES[name])
    segments = segmented(federation)
    step, query = federation.asked[-1]
    assert step == "evaluation"
    assert isinstance(query, Evaluation)
    released = {tuple(map(int, centre)) for centre in segments.centres}
    assert set(query.centres) == released
    assert query.fill == segments.fill
    np.testing.assert_allclose(
        segments.sizes, counts_around(segments, segments.centres, federation.codes), rtol=1e-6
    )
    np.testing.assert_array_equal(
        np.bincount(segments.assign(federation.codes), minlength=3), np.rint(segments.sizes)
    )
    assert (np.diff(segments.sizes) <= 0).all()
    assert segments.size_sigma == 0
    assert segments.assessment is not None
    assert segments.assessment.figures["customers"].value == pytest.approx(ROWS)


@pytest.mark.parametrize("noise", [None, 1])
@pytest.mark.parametrize("name", ["grid", "codebook", "deep codebook"])
def test_without_an_evaluation_sizes_are_those_of_the_last_step(
    name: str, noise: int | None
) -> None:
    """Around the centres before it, with that sum's σ; whoever watches is told."""
    rng = None if noise is None else np.random.default_rng(noise)
    federation = pooled(STUDIES[name], unaffordable=("evaluation",), rng=rng)
    segments = segmented(federation)
    assert federation.steps == [step.step for step in STUDIES[name].plan[:-1]]
    assert federation.notes == ["evaluation is left out. evaluation: nothing is left."]
    assert segments.assessment is None
    _, query = federation.asked[-1]
    assert isinstance(query, ClusterSums)
    centres = np.array(query.centres, dtype=float)
    expected = np.sort(counts_around(segments, centres, federation.codes))[::-1]
    if rng is None:
        np.testing.assert_allclose(segments.sizes, expected, rtol=1e-6)
        assert segments.size_sigma == 0
        return
    sigma = 3.0 / math.sqrt(query.count_share / 100)
    assert segments.size_sigma == pytest.approx(sigma, rel=1e-6)
    assert np.abs(segments.sizes - expected).max() < 6 * sigma
    assert not np.allclose(segments.sizes, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["grid", "codebook"])
def test_rounds_that_cannot_be_paid_are_left_out(name: str) -> None:
    """The steps before them stand, and so does the evaluation."""
    study = STUDIES[name]
    for lost, told in ((("lloyd-2",), ["lloyd-2"]), (("lloyd-1", "lloyd-2"), ["lloyd-1"])):
        federation = pooled(study, unaffordable=lost)
        segments = segmented(federation)
        kept = [step.step for step in study.plan if step.step not in lost]
        assert federation.steps == kept
        assert [note.split()[0] for note in federation.notes] == told
        np.testing.assert_allclose(
            segments.sizes, counts_around(segments, segments.centres, federation.codes), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("grid", ("lloyd-1", "lloyd-2", "evaluation")),
        ("grid alone", ("evaluation",)),
        ("codebook", ("lloyd-1", "evaluation")),
        ("deep codebook", ("lloyd-1", "evaluation")),
    ],
)
def test_segments_that_were_never_counted_are_no_result(name: str, lost: tuple[str, ...]) -> None:
    federation = pooled(STUDIES[name], unaffordable=lost)
    with pytest.raises(FederationError, match="Nothing was left to count the segments"):
        segmented(federation)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("grid", "grid"),
        ("grid alone", "grid"),
        ("codebook", "marginals"),
        ("codebook", "cells-1"),
        ("codebook", "cells-2"),
        ("deep codebook", "cells-3"),
    ],
)
def test_an_early_step_that_cannot_be_paid_ends_the_run(name: str, step: str) -> None:
    federation = pooled(STUDIES[name], unaffordable=(step,))
    with pytest.raises(BudgetError, match=f"{step}: nothing is left"):
        segmented(federation)
    before = [planned.step for planned in STUDIES[name].plan]
    assert federation.steps == before[: before.index(step)]
    assert federation.notes == []


# --- failed attempts, through real nodes ---------------------------------------------------------


def failing(name: str, *attempts: int, clients: int = 6) -> Run:
    """A run in which one member more falls away at each of these attempts, counted over the run."""
    study = STUDIES[name]
    lost = {attempt: clients - 1 - place for place, attempt in enumerate(attempts)}
    return Run(
        study,
        clients,
        lambda attempt, place: lost.get(attempt) == place,
        codes=in_groups(study),
    )


def run(name: str, *attempts: int) -> tuple[Run, Segmentation]:
    finished = failing(name, *attempts)
    finished.federation.hello()
    segments = segment(finished.federation, np.random.default_rng(0))
    finished.check_books()
    return finished, segments


def charges(finished: Run) -> list[tuple[str, int]]:
    return [(entry.step, entry.attempt) for entry in finished.federation.spending]


@NAMES
def test_a_failed_evaluation_is_left_out_and_the_segments_stand(name: str) -> None:
    """Its first attempt takes what there is, so it has no second."""
    steps = [step.step for step in STUDIES[name].plan]
    if name == "grid alone":
        finished = failing(name, len(steps) - 1)
        finished.federation.hello()
        with pytest.raises(FederationError, match="Nothing was left to count"):
            segment(finished.federation, np.random.default_rng(0))
        return
    finished, segments = run(name, len(steps) - 1)
    assert charges(finished) == [(step, 1) for step in steps]
    assert segments.assessment is None
    assert any(text.startswith("evaluation is left out.") for text in finished.told)
    assert segments.sizes.sum() > 0
    assert len(segments.centres) == 3


@pytest.mark.parametrize("name", ["grid", "codebook"])
@pytest.mark.parametrize("lost", ["lloyd-2", "evaluation"])
def test_too_few_members_for_a_late_step_lose_no_paid_study(name: str, lost: str) -> None:
    """The roster is at its minimum when a member falls away: what was opened before stands."""
    study = STUDIES[name]
    steps = [step.step for step in study.plan]
    attempt = steps.index(lost)
    finished = failing(name, attempt, clients=study.roster.min_size)
    finished.federation.hello()
    segments = segment(finished.federation, np.random.default_rng(0))
    finished.check_books()
    assert charges(finished) == [(step, 1) for step in steps[: attempt + 1]]
    assert segments.assessment is None
    told = [text for text in finished.told if "is left out." in text]
    assert [text.split()[0] for text in told] == steps[attempt:]
    assert segments.sizes.sum() > 0


@pytest.mark.parametrize("name", ["codebook", "deep codebook"])
@pytest.mark.parametrize("place", range(4))
def test_a_failed_attempt_of_a_codebook_is_paid_by_what_follows(name: str, place: int) -> None:
    """Every later step keeps its share of what is left; the whole study is still made."""
    plan = STUDIES[name].plan
    finished, segments = run(name, place)
    again = [(step.step, 1) for step in plan]
    again.insert(place + 1, (plan[place].step, 2))
    assert charges(finished) == again
    assert segments.assessment is not None
    spent = [entry.units / finished.study.mu2_units for entry in finished.federation.spending]
    shares = [step.share for step in plan]
    left = 1 - sum(shares[: place + 1])
    ahead = 1 - sum(shares[:place])
    expected = [*shares[: place + 1], *(share * left / ahead for share in shares[place:])]
    assert spent == pytest.approx(expected, rel=1e-6)


def test_the_levels_are_planned_anew_after_a_failed_attempt() -> None:
    """Marginals that cost twice leave more noise to the levels: they have fewer cells."""
    study = STUDIES["codebook"]

    def cells(finished: Run) -> list[int]:
        return [
            len(order.params["centres"])
            for order in finished.federation.orders
            if order.step.startswith("cells-")
        ]

    smooth, _ = run("codebook")
    rough, _ = run("codebook", 0)
    root = math.sqrt(Embedding.of(study).dimensions)
    for finished in (smooth, rough):
        sigmas = [
            opened.sigma * math.sqrt(query_for(study, opened.step).delta_sq) / 2.0**28
            for opened in finished.federation.sums
            if opened.step.startswith("cells-")
        ]
        wanted = [codebook.CELLS * study.declared_customers / (s * root) for s in sigmas]
        expected = [min(codebook.MAX_CELLS, max(3, cell)) for cell in wanted]
        assert cells(finished) == pytest.approx(expected, abs=1)
    assert all(less < more for less, more in zip(cells(rough), cells(smooth), strict=True))


def test_a_start_that_fails_twice_leaves_too_little_for_a_third_try() -> None:
    """Of a grid alone, each attempt takes nearly all: the third would be mostly noise."""
    finished = failing("grid alone", 0, 1)
    finished.federation.hello()
    with pytest.raises(BudgetError, match="failed attempts left"):
        segment(finished.federation, np.random.default_rng(0))
    assert charges(finished) == [("grid", 1), ("grid", 2)]
    finished.check_books()
