"""A classifier's evaluation: the sum, the metrics with their intervals, and what cannot be told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from evaluationkit import ARMS, THREE, Population, count, opened
from kesit_privacy.embedding import Embedding
from kesit_privacy.models import read_model
from kesit_privacy.scorecard import LOGIT, chances
from kesit_server.classification.judging import metrics
from kesit_server.classification.judging.evaluation import assess, evaluation_query
from kesit_server.classification.judging.expected import Expected
from kesit_server.classification.judging.judged import ModelEvaluation
from kesit_server.classification.judging.metrics import Metric
from kesit_server.classification.judging.ranking import area, average_precision, nonnegative
from kesit_server.classification.judging.uplift import uplift
from kesit_server.errors import ResultError
from kit import broken

BANK = Population(9000, 0.12, 3.3)
RARE = Population(20_000, 0.03, 2.0)
BANK_15 = BANK.query(15.0)
RNG = np.random.default_rng


def ends(metric: Metric) -> tuple[float, float]:
    assert metric.interval_95 is not None
    return metric.interval_95


# --- the pieces ----------------------------------------------------------------------------------


def test_areas_of_single_rows_are_scikit_learn_s() -> None:
    rng = RNG(0)
    truth, score = rng.random(400) < 0.3, rng.permutation(400)
    own = truth[np.argsort(score)].astype(float)
    assert area(1 - own, own) == pytest.approx(sk.roc_auc_score(truth, score))
    found = average_precision(np.stack([1 - own, own], axis=1)[None])[0]
    assert found == pytest.approx(sk.average_precision_score(truth, score), abs=0.005)


def test_equal_scores_count_half_and_precision_is_that_of_any_order() -> None:
    assert area(np.array([6.0]), np.array([3.0])) == 0.5
    assert average_precision(np.array([[[6.0, 3.0]]]))[0] == pytest.approx(1 / 3)
    rng = RNG(1)
    mixed = [
        sk.average_precision_score(np.r_[truth, True], np.r_[rng.random(8000), 2.0])
        for truth in (rng.permutation(np.arange(8000) < 2000) for _ in range(100))
    ]
    cells = np.array([[[6000.0, 2000.0], [0.0, 1.0]]])
    assert average_precision(cells)[0] == pytest.approx(np.mean(mixed), abs=0.003)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12))
def test_nearest_counts_are_at_least_zero_with_the_same_sum(values: list[float]) -> None:
    row = np.array([values])
    found = nonnegative(row)[0]
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(max(sum(values), 0.0), abs=1e-9)
    if min(values) >= 0:
        assert found == pytest.approx(row[0], abs=1e-9)


def test_a_share_without_noise_has_wilson_s_interval() -> None:
    low, high = ends(metrics.share(7, 13, 0, 0))
    z, n, p = metrics.Z, 20, 0.35
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert low == pytest.approx((middle - half) / (1 + z * z / n))
    assert high == pytest.approx((middle + half) / (1 + z * z / n))


@given(st.floats(0, 1000), st.floats(1, 1000), st.floats(0, 40), st.floats(0, 40))
def test_a_share_s_interval_holds_it_and_grows_with_noise(
    one: float, rest: float, first: float, second: float
) -> None:
    calm, noisy = metrics.share(one, rest, 0, 0), metrics.share(one, rest, first, second)
    if noisy.value is not None:
        low, high = ends(noisy)
        assert 0 <= low <= noisy.value <= high <= 1
        assert high - low >= ends(calm)[1] - ends(calm)[0] - 0.02
        assert high - low <= metrics.WIDEST


def test_a_ratio_whose_denominator_is_not_told_from_zero_is_none() -> None:
    assert not metrics.share(5, 10, 20, 20).told
    assert not metrics.share(-5, 2, 0, 0).told
    assert not metrics.harmonic(metrics.UNTOLD).told
    assert not metrics.difference(metrics.UNTOLD, metrics.share(70, 30, 0, 0)).told
    told = metrics.UNTOLD.as_dict()
    assert told["value"] is None
    assert set(told["reason"]) == {"en", "tr"}  # type: ignore[call-overload]


def test_a_difference_is_newcombe_s() -> None:
    """56/70 - 48/80: the tenth method's interval as Newcombe (1998, table II) prints it."""
    found = metrics.difference(metrics.share(56, 14, 0, 0), metrics.share(48, 32, 0, 0))
    assert found.value == pytest.approx(0.2)
    assert ends(found) == pytest.approx((0.0524, 0.3339), abs=5e-5)


# --- the query -----------------------------------------------------------------------------------


def test_more_noise_means_fewer_cells_and_the_threshold_is_an_edge() -> None:
    counts = []
    for sigma in (0.0, 4.0, 15.0, 200.0):
        query = BANK.query(sigma)
        counts.append(len(query.edges[0]) + 1)
        assert BANK.expected.threshold in query.edges[0]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[-1]
    assert counts[-1] >= 5


def test_the_threshold_is_the_study_s_or_the_one_of_the_best_f1() -> None:
    given_one = replace(BANK.expected, given=0.3)
    assert given_one.threshold == round(LOGIT * np.log(0.3 / 0.7))
    points, truth = BANK.draw(RNG(5), 50_000)
    tried = np.quantile(points, np.linspace(0.5, 0.99, 50))
    best = max(sk.f1_score(truth, points >= at) for at in tried)
    assert sk.f1_score(truth, points >= BANK.expected.threshold) > best - 0.01


def test_the_query_counts_held_out_customers_alone() -> None:
    query = BANK.query(4.0)
    assert (query.side.low, query.side.high, query.side.inside) == (0, 200, True)
    assert query.delta_sq == 1 << (2 * query.scale_bits)


# --- two classes ---------------------------------------------------------------------------------


def test_without_noise_the_metrics_are_scikit_learn_s() -> None:
    query = BANK.query(0.0)
    points, truth = BANK.draw(RNG(7))
    found = assess(query, opened(count(query, points, truth), 0.0, RNG(0)), BANK.expected)
    chosen = points >= BANK.expected.threshold
    exact = {
        "f1": sk.f1_score(truth, chosen),
        "precision": sk.precision_score(truth, chosen),
        "recall": sk.recall_score(truth, chosen),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, chosen),
        "accuracy": sk.accuracy_score(truth, chosen),
    }
    for name, value in exact.items():
        assert found.metrics[name].value == pytest.approx(value), name
    assert found.metrics["auc"].value == pytest.approx(sk.roc_auc_score(truth, points), abs=0.002)
    precision = sk.average_precision_score(truth, points)
    assert found.metrics["average_precision"].value == pytest.approx(precision, abs=0.01)
    table = [[metric.value for metric in line] for line in found.confusion]
    assert table == sk.confusion_matrix(truth, chosen).tolist()
    assert found.customers.interval_95 == (9000, 9000)
    assert found.base_rates[1].value == pytest.approx(truth.mean())
    [agreement] = found.calibration
    assert ends(agreement.slope)[0] < 1 < ends(agreement.slope)[1]
    assert (agreement.error.value or 0) < 0.02


def test_noise_widens_every_interval() -> None:
    calm = assess(query := BANK.query(4.0), BANK.released(query, 0.0, RNG(1)), BANK.expected)
    noisy = assess(query, BANK.released(query, 15.0, RNG(1)), BANK.expected)
    for name, metric in calm.metrics.items():
        widths = [high - low for low, high in (ends(metric), ends(noisy.metrics[name]))]
        assert widths[1] > 1.02 * widths[0], name
    assert ends(noisy.customers)[1] > ends(noisy.customers)[0]


def test_without_noise_said_the_interval_is_of_sampling_alone() -> None:
    query = BANK.query(4.0)
    released = replace(BANK.released(query, 0.0, RNG(1)), sigma=15.0)
    assert assess(query, released, BANK.expected, noisy=False) == assess(
        query, replace(released, sigma=0.0), BANK.expected
    )


def test_a_rare_class_has_its_recall_first() -> None:
    query = RARE.query(4.0)
    rare = assess(query, RARE.released(query, 4.0, RNG(1)), RARE.expected)
    assert rare.rare
    assert list(rare.as_dict()["metrics"])[:2] == ["recall", "average_precision"]
    lines = rare.text().splitlines()
    assert [line.split(":")[0].strip() for line in lines].index("recall") < next(
        place for place, line in enumerate(lines) if "AUC" in line
    )
    assert "seyrek" in rare.text("tr")
    query = BANK.query(4.0)
    usual = assess(query, BANK.released(query, 4.0, RNG(1)), BANK.expected)
    assert not usual.rare
    assert next(iter(usual.as_dict()["metrics"])) == "auc"


def test_what_is_written_reads_back() -> None:
    query = BANK.query(4.0)
    found = assess(query, BANK.released(query, 4.0, RNG(1)), BANK.expected)
    plain = json.loads(json.dumps(found.as_dict()))
    assert ModelEvaluation.from_dict(plain).as_dict() == plain
    assert ModelEvaluation.from_dict(plain).text("tr")
    for broken_one in ({}, plain | {"metrics": {"auc": {"value": 1}}}, plain | {"confusion": {}}):
        with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
            ModelEvaluation.from_dict(broken_one)


# --- what cannot be told -------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 15.0])
def test_nobody_held_out(sigma: float) -> None:
    query = BANK.query(sigma)
    found = assess(query, opened(np.zeros(query.length), sigma, RNG(3)), BANK.expected)
    told = [*found.metrics.values(), *found.base_rates]
    assert not any(metric.told for metric in told)
    assert all(metric.reason == metrics.NOBODY for metric in told)
    assert found.calibration[0].bars == ()
    assert metrics.NOBODY.tr in found.text("tr")
    assert found.customers.interval_95 is not None  # nobody, give or take the noise


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_a_class_that_nobody_held_out_has(missing: int, sigma: float) -> None:
    query = BANK.query(sigma)
    points, truth = BANK.draw(RNG(4))
    kept = truth != bool(missing)
    values = count(query, points[kept], truth[kept])
    found = assess(query, opened(values, sigma, RNG(8)), BANK.expected)
    assert found.metrics["accuracy"].told
    for name, metric in found.metrics.items():
        if name != "accuracy":
            assert not metric.told, name
            assert metric.reason == metrics.ONE_CLASS
    rate = found.base_rates[1]
    assert rate.value == pytest.approx(1.0 if missing == 0 else 0.0, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_noise_larger_than_the_signal_gives_no_absurd_number(seed: int) -> None:
    """A hundred customers under noise of 60 a count: whatever is told has an interval of use."""
    few = Population(100, 0.3, 2.0)
    query = few.query(60.0)
    found = assess(query, few.released(query, 60.0, RNG(seed)), few.expected)
    for name, metric in found.metrics.items():
        if metric.told:
            low, high = ends(metric)
            assert high - low <= metrics.WIDEST, name
    assert not found.metrics["auc"].told


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, 30.0, 1000.0]))
def test_any_counts_have_an_answer(seed: int, sigma: float) -> None:
    rng, query = RNG(seed), BANK_15
    values = rng.normal(0, rng.choice([0.1, 30, 1e4, 1e9]), query.length)
    values[rng.random(query.length) < 0.3] = 0
    found = assess(query, opened(values, sigma, rng), BANK.expected)
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert ModelEvaluation.from_dict(plain).as_dict() == plain


# --- more classes --------------------------------------------------------------------------------


def three_classes(rows: int, seed: int) -> tuple[Any, Any]:
    rng = RNG(seed)
    truth = rng.choice(3, rows, p=[0.5, 0.35, 0.15])
    means = np.array([[1.5, 0, -1], [0, 1.0, -0.5], [-0.5, 0, 1.0]])
    points = np.rint((means[truth] + rng.normal(0, 1, (rows, 3))) * LOGIT).astype(np.int64)
    return points, truth


def test_more_classes_against_scikit_learn() -> None:
    points, truth = three_classes(30_000, 0)
    expected = Expected(
        tuple(points[truth == kind] for kind in range(3)),
        np.array([float((truth == kind).sum()) for kind in range(3)]),
    )
    zeros = {"intercept": [0] * 3, "parts": [[[0] * 3] * 3]}
    query = evaluation_query(THREE, read_model(Embedding.of(THREE), 3, zeros), expected, 0.5)
    each, confused = query.amplitudes
    unit = 2.0**query.scale_bits
    parts = []
    for kind, (line, scores) in enumerate(zip(query.edges, chances(points).T, strict=True)):
        places = 2 * np.searchsorted(line, scores, side="right") + (truth == kind)
        parts.append(np.bincount(places, minlength=2 * len(line) + 2) * each / unit)
    best = points.argmax(axis=1)
    table = sk.confusion_matrix(truth, best)
    values = np.concatenate([*parts, table.ravel() * confused / unit])
    found = assess(query, opened(values, 0.0, RNG(0)), expected)
    assert [[m.value for m in line] for line in found.confusion] == pytest.approx(table)
    accuracy = found.metrics["accuracy"]
    assert accuracy.value == pytest.approx(sk.accuracy_score(truth, best))
    assert found.metrics["balanced_accuracy"].value == pytest.approx(
        sk.balanced_accuracy_score(truth, best)
    )
    areas = [sk.roc_auc_score(truth == kind, chances(points)[:, kind]) for kind in range(3)]
    for kind, told in enumerate(found.by_class):
        assert told["auc"].value == pytest.approx(areas[kind], abs=0.003)
        recall = sk.recall_score(truth, best, average=None)[kind]
        assert told["recall"].value == pytest.approx(recall)
    assert found.metrics["auc"].value == pytest.approx(np.mean(areas), abs=0.003)
    assert found.customers.value == pytest.approx(30_000)
    plain = json.loads(json.dumps(found.as_dict()))
    assert ModelEvaluation.from_dict(plain).as_dict() == plain
    assert "t2" in found.text()
    nobody = assess(query, opened(values * 0, 1.0, RNG(0)), expected)
    assert not any(m.told for told in nobody.by_class for m in told.values())


# --- arms ----------------------------------------------------------------------------------------


def two_arms(effect: float, size: int = 20_000) -> tuple[Any, Any]:
    """Counts by arm of customers whose outcome the treatment makes likelier, where chances are
    high."""
    population = Population(size, 0.3, 2.0)
    query = population.query(4.0, ARMS)
    rng = RNG(6)
    parts = []
    for treated in (False, True):
        points, truth = population.draw(rng, size // 2)
        high = points >= population.expected.threshold
        gained = treated & high & (rng.random(len(truth)) < effect)
        cells = np.searchsorted(query.edges[0], points, side="right")
        outcome = truth | gained
        parts.append(np.bincount(2 * cells + outcome, minlength=query.length // 2))
    return query, (population, np.concatenate(parts).astype(float))


def test_uplift_is_the_difference_of_rates_where_the_model_chooses() -> None:
    query, (population, values) = two_arms(0.4)
    [found] = uplift(query, opened(values, 4.0, RNG(1)), population.expected.threshold)
    assert (found.arm, found.control) == ("arm1", "arm0")
    assert found.chosen.clear
    assert found.everybody.clear
    assert not found.others.clear
    assert (found.chosen.difference.value or 0) > (found.everybody.difference.value or 0) > 0
    exact = values.reshape(query.by_arm(values).shape).sum(axis=1)
    rates = exact[:, 1] / exact.sum(axis=1)
    low, high = ends(found.everybody.difference)
    assert low < rates[1] - rates[0] < high
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["chosen"]["clear"] is True
    assert "rastgele" in found.text("tr")
    assert "arm1" in found.text()
    # The model's own evaluation counts both arms.
    judged = assess(query, opened(values, 0.0, RNG(1)), population.expected)
    assert judged.customers.value == pytest.approx(20_000)


def test_a_treatment_without_effect_is_not_told_from_none_and_few_customers_say_nothing() -> None:
    query, (population, values) = two_arms(0.0)
    [found] = uplift(query, opened(values, 4.0, RNG(2)), population.expected.threshold)
    assert not found.chosen.clear
    assert "not told" in found.text()
    query, (population, values) = two_arms(0.0, size=60)
    [found] = uplift(query, opened(values, 15.0, RNG(2)), population.expected.threshold)
    assert not found.chosen.difference.told
    assert not found.chosen.clear


def test_a_study_without_arms_compares_nothing() -> None:
    query = BANK.query(4.0)
    with pytest.raises(ResultError) as error:
        uplift(query, BANK.released(query, 4.0, RNG(0)), 0)
    broken(error)


def test_what_rounds_to_nothing_has_no_sign() -> None:
    metric = Metric(-0.0001, (-0.0004, 1234.5))
    assert metric.text() == "0.000 (0.000 - 1,234.500)"
    assert metric.text("tr") == "0,000 (0,000 - 1.234,500)"
