"""Baselines against their own libraries, hand-computed cases, and the edges of their domain."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from sklearn.cluster import KMeans

import kit
from kesit_privacy import accounting
from kesit_privacy.features import GRID, FloatArray, IntArray
from kesit_simulations.baselines import (
    BASELINES,
    Problem,
    ibm,
    inertia,
    lloyd,
    problem_of,
    reference,
)
from kesit_simulations.baselines import dp_lloyd as su
from kesit_simulations.baselines import eug_kmeans as grid
from kesit_simulations.baselines import fast_lloyd as fast
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers

PRIVATE = [name for name, baseline in BASELINES.items() if baseline.private]
MIDDLES = np.array([[0.2, 0.2], [0.8, 0.3], [0.4, 0.8]])
NO_NOISE = su.Split(steps=1, count_scale=0.0, sum_scale=0.0)
SILENT = fast.Parameters(steps=1, radii=(1.0,), sum_factor=0.0, count_sigma=0.0)


def split(rows: int, clients: int) -> tuple[IntArray, ...]:
    """Rows dealt out in turn."""
    return tuple(np.arange(start, rows, clients) for start in range(clients))


def problem(rows: FloatArray, **changes: Any) -> Problem:
    """A task over 4 clients with k = 3 and ε = 1."""
    settings: dict[str, Any] = {
        "parts": split(len(rows), 4),
        "k": 3,
        "epsilon": 1.0,
        "delta": 1e-5,
        "max_colluders": 1,
        "seed": 0,
    }
    return Problem(rows, **(settings | changes))


def blobs(rows: int = 600, seed: int = 0) -> FloatArray:
    """Three round clusters in the unit square."""
    rng = np.random.default_rng(seed)
    drawn = MIDDLES[np.arange(rows) % 3] + rng.normal(0, 0.03, (rows, 2))
    return np.clip(drawn, 0, 1)


def fits(name: str, task: Problem) -> FloatArray:
    """A baseline's centres, after checking their shape and that they are inside the box."""
    centres = BASELINES[name].fit(task)
    sets = centres if centres.ndim == 3 else centres[None]
    assert sets.shape[1:] == (task.k, task.dimensions)
    assert ((sets >= 0) & (sets <= 1)).all()
    return centres


@pytest.mark.parametrize("name", BASELINES)
def test_fits_repeat_by_seed(name: str) -> None:
    task = problem(blobs())
    first = fits(name, task)
    assert np.array_equal(first, fits(name, task))
    if BASELINES[name].private:
        assert not np.array_equal(first, fits(name, replace(task, seed=1)))
        assert not np.array_equal(first, fits(name, replace(task, epsilon=2.0)))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    ("rows", "changes"),
    [
        (np.repeat([[0.25, 0.5], [1.0, 0.0]], 20, axis=0), {}),  # two distinct rows, k = 3
        (np.full((30, 2), 0.5), {}),  # one
        (blobs(90), {"parts": (np.arange(90), np.arange(0))}),  # a client without rows
        (blobs(90)[:, :1], {}),  # d = 1
        (blobs(90), {"k": 1}),
        (np.concatenate([np.zeros((20, 2)), np.ones((20, 2))]), {}),  # on the border
        (np.eye(8)[np.arange(80) % 8] / math.sqrt(2), {"k": 5}),  # one category of eight
    ],
)
def test_edges(name: str, rows: FloatArray, changes: dict[str, Any]) -> None:
    for epsilon in (0.01, 1.0, 20.0):
        task = problem(rows, epsilon=epsilon, **changes)
        assert math.isfinite(inertia(rows, fits(name, task)))


def test_the_registry_is_keyed_by_name_and_says_whom_to_trust() -> None:
    assert [baseline.name for baseline in BASELINES.values()] == list(BASELINES)
    assert len({baseline.title for baseline in BASELINES.values()}) == len(BASELINES)
    assert all(baseline.trust.endswith(".") for baseline in BASELINES.values())
    assert {"central", "alone", "federated-exact"} == set(BASELINES) - set(PRIVATE)


def test_importing_baselines_is_light() -> None:
    code = "import sys, kesit_simulations.baselines; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"flwr", "sklearn", "polars", "diffprivlib"} & set(done.stdout.split())


def test_inertia_by_hand() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]])
    near = np.array([[0.0, 0.0], [1.0, 0.25]])
    middle = np.array([[0.5, 0.0], [0.5, 0.0]])
    assert inertia(rows, near) == 0.0625 + 0.0625
    assert inertia(rows, middle) == 0.25 + 0.25 + 0.5
    assert inertia(rows, np.stack([near, middle])) == (0.125 + 1.0) / 2


def test_inertia_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = blobs(100)
    whole = inertia(rows, MIDDLES)
    assert whole == pytest.approx(
        -KMeans(3, init=MIDDLES, n_init=1, max_iter=1).fit(MIDDLES).score(rows)
    )
    monkeypatch.setattr("kesit_simulations.baselines.problem.CHUNK_CELLS", 7)
    assert inertia(rows, MIDDLES) == pytest.approx(whole, rel=1e-12)
    labels, squares = lloyd.nearest(rows, MIDDLES)
    monkeypatch.setattr(lloyd, "CHUNK_CELLS", 7)
    again = lloyd.nearest(rows, MIDDLES)
    assert np.array_equal(labels, again[0])
    assert squares.sum() == pytest.approx(whole)
    assert squares == pytest.approx(again[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": np.array([[0.5, 1.5]] * 8)},
        {"rows": np.array([[0.5, math.nan]] * 8)},
        {"rows": np.empty((0, 2)), "parts": split(0, 4)},
        {"k": 0},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"epsilon": math.inf},
        {"delta": 1.0},
        {"max_colluders": 4},
        {"parts": split(7, 4)},
        {"parts": (*split(8, 4), np.array([0]))},
    ],
)
def test_a_task_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SimulationError) as caught:
        problem(**({"rows": np.full((8, 2), 0.5)} | wrong))
    assert caught.value.remedy


def test_problem_of_a_study() -> None:
    study = kit.mixed_study(epsilon=0.7)
    codes = kit.random_codes(study, 50)
    codes[:, 0] = np.arange(50) * 100
    codes[0, 0] = -1
    parts = split(50, 5)
    task = problem_of(study, SimulationPlan(data="none", seed=9), Customers(codes, parts))
    assert task.rows.shape == (50, 4 + 5)
    assert task.rows[1:, 0] == pytest.approx(np.arange(1, 50) * 100 / GRID)
    assert task.rows[0, 0] == 2500 / GRID  # the mean of those present
    assert (task.k, task.epsilon, task.delta, task.seed) == (3, 0.7, 1e-5, 9)
    assert (task.max_colluders, task.parts) == (1, parts)


def test_central_is_scikit_learn() -> None:
    rows = blobs()
    model = KMeans(3, n_init=10, random_state=5).fit(rows)
    assert np.array_equal(fits("central", problem(rows, seed=5)), model.cluster_centers_)
    huge = problem(rows, seed=5 + (1 << 31))
    assert np.array_equal(fits("central", huge), model.cluster_centers_)


def test_diffprivlib_is_the_library() -> None:
    from diffprivlib.models import KMeans as PrivateKMeans

    rows = blobs()
    model = PrivateKMeans(3, epsilon=0.5, bounds=(0.0, 1.0), random_state=3).fit(rows)
    found = fits("diffprivlib", problem(rows, epsilon=0.5, seed=3))
    assert np.array_equal(found, np.clip(model.cluster_centers_, 0, 1))


def test_diffprivlib_is_warning_free_and_leaves_the_default_books_alone() -> None:
    from diffprivlib import BudgetAccountant

    before = len(BudgetAccountant.load_default(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits("diffprivlib", problem(blobs()))
    assert len(BudgetAccountant.load_default(None)) == before


@pytest.mark.parametrize(("dimensions", "factor"), [(2, 0.905), (8, 1.133), (64, 2.281)])
def test_what_diffprivlib_spends(dimensions: int, factor: float) -> None:
    """With k = 1 every row is in every count and sum: the ε of all mechanisms add up."""
    from diffprivlib.models import k_means

    spent: list[float] = []

    def watched(mechanism: Any) -> Any:
        def make(**settings: Any) -> Any:
            spent.append(settings["epsilon"])
            return mechanism(**settings)

        return make

    rows = np.random.default_rng(0).random((50, dimensions))
    with (
        mock.patch.object(k_means, "GeometricFolded", watched(k_means.GeometricFolded)),
        mock.patch.object(k_means, "LaplaceBoundedDomain", watched(k_means.LaplaceBoundedDomain)),
    ):
        fits("diffprivlib", problem(rows, k=1, epsilon=0.4))
    assert sum(spent) == pytest.approx(0.4 * ibm.overspending(dimensions))
    assert ibm.overspending(dimensions) == pytest.approx(factor, abs=5e-4)


def test_diffprivlib_missing_or_too_few_rows() -> None:
    with (
        mock.patch.dict(sys.modules, {"diffprivlib.models": None}),
        pytest.raises(SimulationError, match="not installed") as caught,
    ):
        fits("diffprivlib", problem(blobs()))
    assert caught.value.remedy == "pip install 'kesit[simulation]'"
    with pytest.raises(SimulationError, match="no 3 clusters in 2 rows"):
        fits("diffprivlib", problem(blobs(2)))


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("clients", [1, 3, 17])
def test_exact_sums_are_scikit_learns_steps(steps: int, clients: int) -> None:
    rows = np.random.default_rng(1).random((500, 3))  # no clusters: it keeps moving
    start = rows[:6]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: that is meant
        model = KMeans(6, init=start, n_init=1, max_iter=steps, tol=0).fit(rows)
    assert model.n_iter_ == steps
    held = [rows[part] for part in split(500, clients)]
    found = reference.exact_lloyd(held, start, steps)
    assert found == pytest.approx(model.cluster_centers_, abs=1e-12)


def test_federated_exact_is_as_good_as_central() -> None:
    rows = np.random.default_rng(2).random((400, 2))
    task = problem(rows, k=8)
    pooled = inertia(rows, fits("central", task))
    assert inertia(rows, fits("federated-exact", task)) <= 1.02 * pooled
    rows = blobs()
    pooled = inertia(rows, fits("central", problem(rows)))
    assert inertia(rows, fits("federated-exact", problem(rows))) == pytest.approx(pooled)


def test_plus_plus_draws_each_distinct_row_before_it_repeats() -> None:
    held = [np.array([[0.0], [0.0]]), np.empty((0, 1)), np.array([[0.5], [1.0], [1.0]])]
    for seed in range(20):
        centres = reference.plus_plus(held, 5, np.random.default_rng(seed))
        assert sorted(centres[:3, 0]) == [0.0, 0.5, 1.0]
        assert np.array_equal(centres[3:], centres[:2])


def test_alone_by_hand() -> None:
    """Two clients with two distinct rows each: their centres are their rows."""
    rows = np.array([[0.0], [0.1], [0.9], [1.0]])
    parts = (np.array([0, 1]), np.array([2, 3]), np.arange(0))
    task = problem(rows, parts=parts, k=2)
    found = fits("alone", task)
    assert found.shape == (2, 2, 1)  # nothing from the client without rows
    assert sorted(found[0, :, 0]) == pytest.approx([0.0, 0.1])
    one = 0.8**2 + 0.9**2  # the other client's rows, seen from 0.1 or from 0.9
    assert inertia(rows, found) == pytest.approx((one + one) / 2)
    assert fits("alone-private", task).shape == (2, 2, 1)


def test_a_client_alone_spends_its_budget_on_its_own_rows() -> None:
    rows = blobs()
    whole = problem(rows, parts=(np.arange(600),), max_colluders=0)
    assert np.array_equal(fits("alone-private", whole)[0], fits("fastlloyd", whole))


def test_the_split_of_dplloyd_by_hand() -> None:
    """∛(4·2·0.225²) = 0.7399; √(500·4³/10⁸·2.7399³) = 0.0811 a step buys 6 steps of 0.5."""
    spending = su.Split.of(10_000, 2, 4, 0.5)
    assert spending.steps == 6
    assert spending.sum_scale == pytest.approx(2.7399 * 6 / 0.5, rel=1e-4)
    assert spending.count_scale == pytest.approx(2.7399 * 6 / 0.5 / 0.7399, rel=1e-4)
    assert su.Split.of(10_000, 2, 4, 1e-3).steps == 2
    assert su.Split.of(10_000, 2, 4, 1e3).steps == 7


@pytest.mark.parametrize("dimensions", [1, 2, 64])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 10.0])
def test_shares_add_up_to_the_whole_budget(dimensions: int, epsilon: float) -> None:
    pure = su.Split.of(2000, dimensions, 5, epsilon)
    spent = pure.steps * (1 / pure.count_scale + dimensions / pure.sum_scale)
    assert spent == pytest.approx(epsilon)
    gaussian = fast.Parameters.of(2000, dimensions, 5, epsilon, 1e-5)
    assert len(gaussian.radii) == gaussian.steps
    step = 1 / gaussian.sum_factor**2 + 1 / gaussian.count_sigma**2
    whole = accounting.budget_units(epsilon, 1e-5) / accounting.UNITS_PER_MU2
    assert gaussian.steps * step == pytest.approx(whole)


def test_the_parameters_of_fastlloyd_by_hand() -> None:
    """d = 2, k = 16: diagonal √8; radii √2 and 0.8/(2·4) of the diagonal; √(4d) = √8."""
    many = fast.Parameters.of(10**6, 2, 16, 1.0, 1e-6)
    assert many.steps == 7
    assert many.radii == pytest.approx([math.sqrt(2)] + [0.1 * math.sqrt(8)] * 6)
    unit = 4.225 * math.sqrt(7 * (1 + math.sqrt(8)))  # 4.225: the doctest of `budget_units`
    assert many.count_sigma == pytest.approx(unit, rel=1e-3)
    assert many.sum_factor == pytest.approx(unit / 8**0.25, rel=1e-3)
    # n for which 0.004·4·n²/(k³·r²·(1+√8)²·σ²) = 4.99
    root, radius = 1 + math.sqrt(8), 0.1 * math.sqrt(8)
    rows = math.sqrt(4.99 * 16**3 * radius**2 * root**2 * 4.225**2 / 0.016)
    assert fast.Parameters.of(round(rows), 2, 16, 1.0, 1e-6).steps == 4
    assert fast.Parameters.of(round(rows * 1.002), 2, 16, 1.0, 1e-6).steps == 5
    assert fast.Parameters.of(100, 2, 16, 1.0, 1e-6).steps == 2


@pytest.mark.parametrize(
    "extra",
    [[1.0, -1.0], [-1.0, -1.0], [0.5, 0.5], [0.0, 0.0], [-0.6, 0.99], [0.9, 0.8]],
)
def test_a_neighbour_moves_sums_by_no_more_than_the_sensitivity(extra: list[float]) -> None:
    rows = lloyd.to_signed(blobs(60))
    more = np.concatenate([rows, [extra]])
    centres = np.array([[-0.5, -0.5], [0.5, 0.5]])
    quiet = np.random.default_rng(0)
    sums, counts = su.noisy_sums(rows, centres, NO_NOISE, quiet)
    sums_more, counts_more = su.noisy_sums(more, centres, NO_NOISE, quiet)
    assert np.abs(counts_more - counts).sum() == 1
    assert np.abs(sums_more - sums).sum(axis=0).max() <= 1 + 1e-12  # a coordinate, all clusters
    for radius in (0.3, 1.0, math.sqrt(2)):
        sums, counts = fast.noisy_sums(rows, centres, radius, SILENT, quiet)
        sums_more, counts_more = fast.noisy_sums(more, centres, radius, SILENT, quiet)
        distance = min(float(np.linalg.norm(np.array(extra) - one)) for one in centres)
        inside = distance <= radius
        assert np.abs(counts_more - counts).sum() == inside  # left out beyond the radius
        moved = float(np.linalg.norm(sums_more - sums))
        assert moved == pytest.approx(distance if inside else 0, abs=1e-9)


def test_one_step_of_fastlloyd_by_hand() -> None:
    rows = np.array([[-0.5], [-0.3], [0.9]])
    centres = np.array([[-0.5], [0.5]])
    sums, counts = fast.noisy_sums(rows, centres, 0.3, SILENT, np.random.default_rng(0))
    assert sums[:, 0] == pytest.approx([0.2, 0.0])  # 0.9 is beyond the radius of 0.5
    assert counts.tolist() == [2, 0]


def test_folding_reflects() -> None:
    outside = np.array([-3.5, -1.25, -1.0, 0.4, 1.0, 1.25, 3.0, 3.5, 5.5])
    inside = [0.5, -0.75, -1.0, 0.4, 1.0, 0.75, -1.0, -0.5, 0.5]
    assert fast.fold(outside) == pytest.approx(np.array(inside))


def test_dplloyd_without_noise_is_lloyd() -> None:
    rows = blobs()
    task = problem(rows, epsilon=1e7)
    start = lloyd.sphere_packing(3, 2, task.generator(su.STREAM), su.BISECTIONS)
    plain = reference.exact_lloyd([lloyd.to_signed(rows)], start, su.MOST_STEPS)
    assert fits("dplloyd", task) == pytest.approx(lloyd.from_signed(plain), abs=1e-4)


def test_fastlloyd_without_noise_is_lloyd_within_its_radius() -> None:
    rows = np.random.default_rng(3).uniform(0.3, 0.6, (500, 1))
    one = problem(rows, k=1, epsilon=1e7)  # the radius is 1 around the middle, then 0.8
    assert fits("fastlloyd", one) == pytest.approx(rows.mean(axis=0)[None], abs=1e-4)
    rows = blobs()
    best = inertia(rows, fits("central", problem(rows)))
    found = [inertia(rows, fits("fastlloyd", problem(rows, epsilon=1e7, seed=s))) for s in range(5)]
    assert min(found) <= 1.001 * best


def test_only_members_noise_grows_with_the_colluders() -> None:
    rows = blobs()
    task = problem(rows)
    assert task.federated_factor == math.sqrt(4 / 3)
    nobody = replace(task, max_colluders=0)
    published = fits("fastlloyd", task)
    assert np.array_equal(published, fits("fastlloyd", nobody))
    assert np.array_equal(published, fits("fastlloyd-members", nobody))
    assert not np.array_equal(published, fits("fastlloyd-members", task))
    parameters = fast.Parameters.of(600, 2, 3, 1.0, 1e-5)

    def draw(factor: float, used: fast.Parameters) -> tuple[FloatArray, FloatArray]:
        rng = np.random.default_rng(0)
        return fast.noisy_sums(lloyd.to_signed(rows), MIDDLES, 0.5, used, rng, factor)

    for once, twice, exact in zip(
        draw(1, parameters), draw(2, parameters), draw(1, SILENT), strict=True
    ):
        assert twice - exact == pytest.approx(2 * (once - exact))


@pytest.mark.parametrize("bisections", [0, 10])
@pytest.mark.parametrize(("k", "dimensions", "least"), [(1, 3, 1), (4, 2, 1 / 8), (10, 64, 1 / 2)])
def test_spheres_do_not_touch(k: int, dimensions: int, least: float, bisections: int) -> None:
    for seed in range(5):
        centres = lloyd.sphere_packing(k, dimensions, np.random.default_rng(seed), bisections)
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2)[~np.eye(k, dtype=bool)]
        border = 1 - np.abs(centres).max()
        assert min([border, *(gaps / 2)]) >= least - 1e-12


def test_the_grid_by_hand() -> None:
    rows = np.array([[0.0, 0.0], [0.49, 0.0], [0.2, 0.5], [1.0, 1.0], [0.5, 0.99]])
    counts = grid.noisy_grid(rows, 2, math.inf, np.random.default_rng(0))
    assert counts.tolist() == [2, 1, 0, 2]
    assert grid.side(5000, 2, 1.0) == round(math.sqrt(500))  # M = (nε/10)^(2d/(2+d)) = 500
    assert grid.side(1797, 64, 1.0) == 1
    one_cell = fits("eugkm", problem(np.random.default_rng(0).random((40, 64))))
    assert (one_cell == 0.5).all(axis=1).sum() == 1
    assert grid.strides(3, 4).tolist() == [27, 9, 3, 1]


def test_signed_weights_by_hand() -> None:
    points = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    weights = np.array([3.0, -1.0, 0.5, -0.5])
    moved = grid.signed_lloyd(points, weights, np.array([[-0.8], [0.8]]), 1)
    # (-3 + 0.5)/2 = -1.25 is clipped; the right cluster's mass of 0 leaves it in place.
    assert moved[:, 0].tolist() == [-1.0, 0.8]


def test_starts_on_the_grid() -> None:
    points = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    rng = np.random.default_rng(0)
    found = grid.spread_out(points, np.array([3.0, -9.0, 0.0, 2.0]), 3, rng)
    assert sorted(found[:2, 0]) == [-1.0, 1.0]  # the two with customers, each before it repeats
    assert found[2] == found[0]
    nothing = grid.spread_out(points, -np.ones(4), 4, rng)
    assert sorted(nothing[:, 0]) == sorted(points[:, 0])


def test_the_grid_without_noise_is_as_good_as_central() -> None:
    rows = blobs()
    task = problem(rows, epsilon=1e3)
    best = inertia(rows, fits("central", task))
    assert inertia(rows, fits("eugkm", task)) <= 1.01 * best
    with pytest.raises(SimulationError, match="cells") as caught:
        fits("eugkm", problem(np.random.default_rng(0).random((500, 6)), epsilon=1e4))
    assert caught.value.remedy
