"""Baseline classifiers: what they reach, what they never look at, and the edges of their domain."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from kesit_privacy.features import GRID, Categorical, FloatArray, IntArray, Numeric
from kesit_simulations.classifier_baselines import (
    BASELINES,
    ClassifierProblem,
    auc,
    average_precision,
    ebm,
    ibm,
    sgd,
    tuning,
)
from kesit_simulations.classifier_baselines.problem import spread
from kesit_simulations.errors import SimulationError

PRIVATE = [name for name, baseline in BASELINES.items() if baseline.private]
TWO_CLASSES_ONLY = {"dp-ebm", "dp-ebm-tuned"}
FEATURES = (
    Numeric("numeric", "income", 0.0, 100.0),
    Numeric("numeric", "noise", -1.0, 1.0),
    Categorical("categorical", "branch", ("north", "south", "west")),
)


@pytest.fixture(autouse=True)
def short_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two settings instead of eight: sixteen more fits a fit would test patience only."""
    for module in (ebm, ibm, sgd):
        monkeypatch.setattr(module, "GRID", module.GRID[1:3])


WHOLE_GRIDS = (ebm.GRID, ibm.GRID, sgd.GRID)


def split(rows: int, clients: int) -> tuple[IntArray, ...]:
    """Rows dealt out in turn."""
    return tuple(np.arange(start, rows, clients) for start in range(clients))


def problem(rows: int = 3000, classes: int = 2, **changes: Any) -> ClassifierProblem:
    """Four clients; income (sometimes missing) and branch tell the class, `noise` does not."""
    rng = np.random.default_rng(7)
    income = rng.uniform(0, 1, rows)
    branch = rng.integers(0, 3, rows)
    score = 6 * (income - 0.5) + (branch == 1) + rng.logistic(0, 0.5, rows)
    edges = np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1])
    codes = np.column_stack([(income * GRID).astype(int), rng.integers(0, GRID, rows), branch])
    codes[rng.random(rows) < 0.05, 0] = -1
    settings: dict[str, Any] = {
        "features": FEATURES,
        "codes": codes.astype(np.int16),
        "labels": np.searchsorted(edges, score).astype(np.int64),
        "train": np.arange(rows) % 5 != 0,
        "epsilon": 2.0,
        "delta": 1e-5,
        "seed": 0,
        "parts": split(rows, 4),
        "classes": classes,
        "may_be_missing": ("income",),
    }
    return ClassifierProblem(**(settings | changes))


def fits(name: str, task: ClassifierProblem) -> FloatArray:
    """A baseline's probabilities, after checking that they are some."""
    if BASELINES[name].extra == "neural":
        pytest.importorskip("opacus", reason="DP-SGD needs Opacus (kesit[neural])")
    found = BASELINES[name].fit(task)
    assert found.shape[-2:] == (len(task.held_labels), task.classes)
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=-1), 1)
    assert (found >= 0).all()
    return found


def without(task: ClassifierProblem, place: int) -> ClassifierProblem:
    """The task with what its held-out rows but one say replaced by nonsense."""
    held = np.flatnonzero(~task.train)
    spoilt = np.delete(held, place)
    codes, labels = task.codes.copy(), task.labels.copy()
    codes[spoilt] = (GRID, 0, 4)
    codes[spoilt[::2], 0] = -1
    labels[held] = 1 - labels[held]
    return replace(task, codes=codes, labels=labels)


@pytest.mark.parametrize("name", BASELINES)
def test_beats_chance_and_repeats_by_seed(name: str) -> None:
    task = problem()
    first = fits(name, task)
    assert auc(task.held_labels, first) > 0.65
    assert average_precision(task.held_labels, first) > 0.6
    assert np.array_equal(first, fits(name, task))
    if BASELINES[name].private:
        assert not np.array_equal(first, fits(name, replace(task, seed=1)))
        assert not np.array_equal(first, fits(name, replace(task, epsilon=1.0)))


@pytest.mark.parametrize("name", BASELINES)
def test_held_out_rows_and_labels_do_not_reach_a_fit(name: str) -> None:
    task = problem(800)
    place = 11
    assert np.array_equal(
        fits(name, task)[..., place, :], fits(name, without(task, place))[..., place, :]
    )


@pytest.mark.parametrize("name", PRIVATE)
def test_little_epsilon_is_near_chance(name: str) -> None:
    epsilon = 0.03 if name == "dp-sgd" else 1e-3
    tasks = [problem(500, epsilon=epsilon, seed=seed) for seed in range(4)]
    scores = [auc(task.held_labels, fits(name, task)) for task in tasks]
    # Noise points anywhere, also well up or down the one feature that matters: a single fit may
    # rank well by luck, but not all of them, and never as `test_beats_chance` wants it.
    assert min(scores) < 0.6
    assert np.mean(scores) < 0.7


@pytest.mark.parametrize("name", BASELINES)
def test_three_classes(name: str) -> None:
    task = problem(classes=3, epsilon=8.0)
    if name in TWO_CLASSES_ONLY:
        with pytest.raises(SimulationError, match="two classes"):
            BASELINES[name].fit(task)
    else:
        assert auc(task.held_labels, fits(name, task)) > 0.65


@pytest.mark.parametrize("name", BASELINES)
def test_a_class_that_nobody_learnt(name: str) -> None:
    task = problem(1000, classes=3)
    if name in TWO_CLASSES_ONLY:
        return
    task = replace(task, train=task.train & (task.labels != 2))
    found = fits(name, task)
    if name != "dp-sgd":  # which has a column for it all the same
        assert not found[..., 2].any()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("epsilon", [0.05, 50.0])
def test_few_rows_and_much_or_little_epsilon(name: str, epsilon: float) -> None:
    task = problem(40, epsilon=epsilon, parts=(*split(40, 2), np.arange(0)))
    assert math.isfinite(auc(task.held_labels, fits(name, task)))


def test_the_registry_is_keyed_by_name_and_says_whom_to_trust() -> None:
    assert [baseline.name for baseline in BASELINES.values()] == list(BASELINES)
    assert len({baseline.title for baseline in BASELINES.values()}) == len(BASELINES)
    assert all(baseline.trust.endswith(".") for baseline in BASELINES.values())
    assert {"logistic", "boosting", "alone-clear"} == set(BASELINES) - set(PRIVATE)
    assert {baseline.extra for baseline in BASELINES.values()} == {None, "simulation", "neural"}


def test_importing_baselines_is_light() -> None:
    code = "import sys, kesit_simulations.classifier_baselines; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"flwr", "sklearn", "polars", "diffprivlib", "interpret", "torch"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("diffprivlib", "diffprivlib.models"),
        ("dp-ebm", "interpret.privacy"),
        ("dp-sgd", "opacus"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(name: str, package: str) -> None:
    with (
        mock.patch.dict(sys.modules, {package: None}),
        pytest.raises(SimulationError, match="not installed") as caught,
    ):
        BASELINES[name].fit(problem(200))
    assert f"kesit[{BASELINES[name].extra}]" in caught.value.remedy


def test_the_design_by_hand() -> None:
    codes = np.array([[0, GRID, 1], [-1, -1, 3], [GRID // 4, 0, 4], [1, 1, 2], [2, 2, 0]])
    task = problem(
        codes=codes.astype(np.int16),
        labels=np.array([0, 1, 0, 1, 0]),
        train=np.array([True, True, False, True, False]),
        parts=split(5, 1),
        may_be_missing=("income", "branch"),
    )
    assert task.x.shape == (5, 2 + 1 + 4)
    assert task.x[0].tolist() == [0, 0, 1, 0, 1, 0, 0]
    assert task.x[1].tolist() == [0.5, 1, 0.5, 0, 0, 0, 0]  # an unknown level: no column at all
    assert task.x[2].tolist() == [0.25, 0, 0, 0, 0, 0, 1]
    assert task.norm == math.sqrt(1.25 + 1 + 1)
    assert np.isnan(task.table[1, :2]).all()
    assert task.table[2].tolist() == [0.25, 0, 4]


def test_no_row_is_longer_than_the_public_norm() -> None:
    task = problem()
    assert np.linalg.norm(task.x, axis=1).max() <= task.norm
    widest = np.array([[-1, GRID, 0], [GRID, GRID, 1]], dtype=np.int16)
    norms = np.linalg.norm(replace(task, codes=np.tile(widest, (1500, 1))).x, axis=1)
    assert norms.max() == pytest.approx(task.norm)


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    chance = rng.random(100)
    found = np.column_stack([1 - chance, chance])
    assert auc(labels, found) == roc_auc_score(labels, chance)
    assert average_precision(labels, found) == average_precision_score(labels, chance)
    assert auc(labels, np.stack([found, found[:, ::-1]])) == pytest.approx(0.5)
    three, shares = rng.integers(0, 3, 100), rng.dirichlet(np.ones(3), 100)
    assert auc(three, shares) == pytest.approx(roc_auc_score(three, shares, multi_class="ovr"))
    assert average_precision(three, shares) == pytest.approx(average_precision_score(three, shares))


@pytest.mark.parametrize(
    ("labels", "rows"), [(np.zeros(4, dtype=np.int64), 4), (np.array([0, 1]), 4)]
)
def test_what_cannot_be_scored_is_refused(labels: IntArray, rows: int) -> None:
    with pytest.raises(SimulationError) as caught:
        auc(labels, np.full((rows, 2), 0.5))
    assert caught.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [
        {"codes": np.zeros((40, 2), dtype=np.int16)},
        {"codes": np.full((40, 3), 5, dtype=np.int16)},  # no such branch
        {"codes": np.full((40, 3), -1, dtype=np.int16)},
        {"labels": np.full(40, 2)},
        {"labels": np.ones(40, dtype=np.int64)},  # one class to learn from
        {"classes": 1},
        {"train": np.ones(40, dtype=bool)},
        {"train": np.zeros(40, dtype=bool)},
        {"train": np.ones(40, dtype=np.int64)},
        {"epsilon": 0.0},
        {"epsilon": math.inf},
        {"delta": 1.0},
        {"seed": -1},
        {"parts": split(39, 4)},
        {"may_be_missing": ("age",)},
    ],
)
def test_a_task_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SimulationError) as caught:
        problem(40, **wrong)
    assert caught.value.remedy


def test_logistic_is_scikit_learn() -> None:
    task = problem()
    model = LogisticRegression(max_iter=1000).fit(task.x[task.train], task.labels[task.train])
    assert np.array_equal(fits("logistic", task), model.predict_proba(task.x[~task.train]))


def test_diffprivlib_is_the_library_and_leaks_nothing_that_it_knows_of() -> None:
    from diffprivlib import BudgetAccountant
    from diffprivlib.models import LogisticRegression as Private

    before = len(BudgetAccountant.load_default(None))
    task = problem(classes=3)
    seed = int(task.generator(ibm.STREAM).integers(1 << 31))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PrivacyLeakWarning among others
        found = fits("diffprivlib", task)
    assert len(BudgetAccountant.load_default(None)) == before
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "scipy.optimize: The `disp`", DeprecationWarning)
        model = Private(
            epsilon=task.epsilon,
            data_norm=task.norm * (1 + ibm.ROUNDING),
            random_state=seed,
            accountant=BudgetAccountant(),
        ).fit(task.x[task.train], task.labels[task.train])
    assert found == pytest.approx(model.predict_proba(task.x[~task.train]))


def test_one_vs_rest_survives_scores_far_below_zero() -> None:
    found = ibm.one_vs_rest(np.array([[-2000.0, -1000.0, -1000.0], [0.0, 1e6, -5.0]]))
    assert found[0] == pytest.approx([0, 0.5, 0.5])
    assert found[1] == pytest.approx([0.5 / (1.5 + math.exp(-5)), 1 / 1.5, 0], abs=5e-3)


def test_diffprivlib_reckons_with_the_norm_where_the_proof_has_its_square() -> None:
    from diffprivlib.mechanisms import Vector

    seen: dict[str, Any] = {}
    task = problem()
    with (
        mock.patch.object(
            Vector, "__init__", autospec=True, side_effect=lambda _, **given: seen.update(given)
        ),
        pytest.raises(AttributeError),
    ):
        BASELINES["diffprivlib"].fit(task)
    radius = math.sqrt(task.norm**2 + 1)
    assert seen["function_sensitivity"] * seen["data_sensitivity"] == pytest.approx(radius / 4)
    assert seen["alpha"] == 1
    assert ibm.overspending(0.0, 1.0) == pytest.approx(1)  # R = 1: nothing is amiss
    # ε = 1, R = 4: the library adds penalty until 2·ln(1 + 1/Λ) = 1/2; the truth is 4/Λ for 1/Λ.
    assert ibm.overspending(math.sqrt(15), 1.0) == pytest.approx(
        0.5 + 2 * math.log(1 + 4 * math.expm1(0.25))
    )
    assert ibm.overspending(1.0, 1.0, c=0.001) < 1.001


def test_dp_ebm_gets_public_bounds_and_a_cell_for_what_is_missing() -> None:
    from interpret.privacy import DPExplainableBoostingClassifier

    task = problem()
    rows, bounds = ebm.bounded_table(task, 32)
    assert bounds == {0: (-1 / 61, 1.0), 1: (0.0, 1.0)}
    assert not np.isnan(rows).any()
    assert (rows[task.codes[:, 0] < 0, 0] == -0.5 / 61).all()
    made = []
    with (
        mock.patch.object(
            DPExplainableBoostingClassifier,
            "__init__",
            autospec=True,
            side_effect=lambda _, **given: made.append(given),
        ),
        pytest.raises(AttributeError),
    ):
        BASELINES["dp-ebm"].fit(task)
    assert made[0]["privacy_bounds"] == bounds
    assert made[0]["feature_types"] == ["continuous", "continuous", "nominal"]
    assert (made[0]["epsilon"], made[0]["delta"]) == (task.epsilon, task.delta)


def test_default_settings_are_the_librarys() -> None:
    import inspect

    from interpret.privacy import DPExplainableBoostingClassifier

    given = inspect.signature(DPExplainableBoostingClassifier.__init__).parameters
    for name, value in vars(ebm.Settings()).items():
        assert given[name].default == value


@pytest.mark.parametrize("grid", WHOLE_GRIDS)
def test_every_grid_is_of_one_size(grid: tuple[object, ...]) -> None:
    assert len(set(grid)) == tuning.SETTINGS


def test_tuning_looks_at_training_rows_alone_and_takes_the_best() -> None:
    task = problem(400)
    asked: Counter[str] = Counter()

    def fit(one: ClassifierProblem, setting: str) -> FloatArray:
        asked[setting] += 1
        assert one.epsilon == task.epsilon
        truth = one.held_labels if setting == "good" else 1 - one.held_labels
        return np.column_stack([1 - truth, truth]).astype(np.float64)

    assert tuning.best(task, ("bad", "good", "bad"), fit) == "good"
    assert asked == {"bad": 2 * tuning.DIVISIONS, "good": tuning.DIVISIONS}
    first, second = (tuning.trial(task, turn) for turn in range(2))
    assert len(first.codes) == task.train.sum()
    assert first.train.sum() == pytest.approx(0.75 * task.train.sum(), abs=2)
    assert first.seed != second.seed
    trained = Counter(map(tuple, task.codes[task.train].tolist()))
    assert Counter(map(tuple, first.codes.tolist())) == trained


def test_a_client_alone_learns_from_its_own_training_rows() -> None:
    rows = 600
    labels = problem(rows).labels
    ones = np.flatnonzero(labels == 1)
    # One client without rows, one of held-out rows alone, one of a single class, one of the rest.
    held = np.arange(0, rows, 5)
    single = np.setdiff1d(ones[:50], held)
    rest = np.setdiff1d(np.arange(rows), np.concatenate([held, single]))
    task = problem(rows, parts=(np.arange(0), held, single, rest))
    for name in ("alone", "alone-clear"):
        found = fits(name, task)
        assert found.shape == (2, len(held), 2)
        assert (found[0] == [0, 1]).all()
        assert auc(task.held_labels, found[:1]) == 0.5
    model = LogisticRegression(max_iter=1000).fit(task.x[rest], task.labels[rest])
    assert found[1] == pytest.approx(model.predict_proba(task.x[held]))


def test_columns_of_unknown_classes_are_zero() -> None:
    assert spread(np.array([[0.25, 0.75]]), np.array([0, 2]), 3).tolist() == [[0.25, 0, 0.75]]


def test_opacus_finds_the_noise_that_another_accountant_wants() -> None:
    pytest.importorskip("opacus", reason="DP-SGD needs Opacus (kesit[neural])")
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    setting = sgd.Settings(steps=200, rate=0.05)
    step = dp_accounting.PoissonSampledDpEvent(
        setting.rate, dp_accounting.GaussianDpEvent(sgd.noise(1.0, 1e-5, setting))
    )
    spent = PLDAccountant().compose(dp_accounting.SelfComposedDpEvent(step, setting.steps))
    assert 0.95 < spent.get_epsilon(1e-5) <= 1.0
