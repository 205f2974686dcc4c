"""The generated bank: reproducible, inside its bounds, and with segments that can be found."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from kesit_simulations import retail_bank
from kesit_simulations.errors import SimulationError
from kesit_simulations.retail_bank import BOUNDS, generate

MONEY = ("monthly_income", "balance", "card_spend")


@pytest.fixture(scope="module")
def bank() -> pl.DataFrame:
    return generate(12_000, seed=5)


def values(frame: pl.DataFrame, column: str) -> npt.NDArray[Any]:
    return frame[column].to_numpy()


def signed_log(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.copysign(np.log1p(np.abs(x)), x)


def scaled(frame: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Numeric columns in [0, 1] by the public bounds; money on the signed-log scale."""
    columns = []
    for name, bounds in BOUNDS.items():
        x, ends = frame[name].cast(pl.Float64).to_numpy(), np.array(bounds)
        if name in MONEY:
            x, ends = signed_log(x), signed_log(ends)
        x = (x - ends[0]) / (ends[1] - ends[0])
        columns.append(np.where(np.isnan(x), np.nanmean(x), x))
    return np.column_stack(columns)


def test_the_seed_decides() -> None:
    assert generate(500, seed=1).equals(generate(500, seed=1))
    assert not generate(500, seed=1).equals(generate(500, seed=2))


def test_columns_and_types(bank: pl.DataFrame) -> None:
    assert dict(bank.schema) == {
        "customer_id": pl.String,
        "unit": pl.String,
        "segment": pl.String,
        "age": pl.Int64,
        "gender": pl.String,
        "region": pl.String,
        "monthly_income": pl.Float64,
        "tenure_years": pl.Float64,
        "balance": pl.Float64,
        "card_spend": pl.Float64,
        "products": pl.Int64,
        "digital_logins": pl.Int64,
        "channel": pl.String,
    }
    assert bank.height == 12_000
    assert bank["customer_id"].n_unique() == 12_000
    assert [c for c in bank.columns if bank[c].null_count()] == ["monthly_income"]


def test_levels(bank: pl.DataFrame) -> None:
    for column, levels in {
        "unit": retail_bank.UNITS,
        "segment": retail_bank.SEGMENTS,
        "gender": retail_bank.GENDERS,
        "region": retail_bank.REGIONS,
        "channel": retail_bank.CHANNELS,
    }.items():
        assert set(bank[column]) == set(levels)


def test_numbers_lie_inside_the_public_bounds(bank: pl.DataFrame) -> None:
    for column, (low, high) in BOUNDS.items():
        assert bank[column].drop_nulls().is_between(low, high).all(), column
    assert (bank["tenure_years"] <= bank["age"] - 15).all()


def test_mixes_add_up_to_one() -> None:
    units = retail_bank.UNITS.values()
    assert sum(u.share for u in units) == pytest.approx(1)
    assert all(sum(u.mix) == pytest.approx(1) for u in units)
    assert sum(retail_bank._REGION_SHARES.values()) == pytest.approx(1)
    assert retail_bank._CHANNEL_MIX.sum(axis=1) == pytest.approx(np.ones(6))


def test_units_differ_in_size_and_in_mix(bank: pl.DataFrame) -> None:
    sizes = np.unique(values(bank, "unit"), return_counts=True)[1]
    assert sizes.max() / sizes.min() > 2
    for name, unit in retail_bank.UNITS.items():
        inside = values(bank.filter(pl.col("unit") == name), "segment")
        found = [float((inside == segment).mean()) for segment in retail_bank.SEGMENTS]
        # About 800 customers in the smallest unit: a standard error of at most 0.018.
        assert found == pytest.approx(unit.mix, abs=0.08)


def test_income_is_missing_more_often_for_older_customers(bank: pl.DataFrame) -> None:
    missing, age = np.isnan(values(bank, "monthly_income")), values(bank, "age")
    assert missing.mean() == pytest.approx(0.15, abs=0.015)
    assert missing[age >= 60].mean() > missing[age < 40].mean() + 0.04


def test_money_is_heavy_tailed_and_balances_can_be_negative(bank: pl.DataFrame) -> None:
    for column in MONEY:
        money = values(bank, column)
        assert np.nanquantile(money, 0.999) > 15 * np.nanmedian(money), column
    assert 0.005 < (values(bank, "balance") < 0).mean() < 0.03


def test_partner_customers_come_through_the_partner(bank: pl.DataFrame) -> None:
    at_partner = np.char.startswith(values(bank, "unit").astype(str), "ortak-")
    through = values(bank, "channel") == "partner"
    assert through[at_partner].mean() > 0.5
    assert through[~at_partner].mean() < 0.1


def test_k_means_finds_the_segments(bank: pl.DataFrame) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    metrics = pytest.importorskip("sklearn.metrics")
    found = cluster.KMeans(n_clusters=6, n_init=4, random_state=0).fit_predict(scaled(bank))
    assert metrics.adjusted_rand_score(values(bank, "segment"), found) > 0.75


def test_one_customer_is_a_bank() -> None:
    assert generate(1).height == 1


@pytest.mark.parametrize(
    ("customers", "seed", "cause"), [(0, 1, "customers = 0"), (10, -1, "seed = -1")]
)
def test_bad_arguments_are_named(customers: int, seed: int, cause: str) -> None:
    with pytest.raises(SimulationError) as caught:
        generate(customers, seed)
    assert cause in caught.value.cause
    assert caught.value.remedy
