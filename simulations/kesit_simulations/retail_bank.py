"""A made-up Turkish retail bank whose customer segments are known.

No real customer is behind any row. The bank has five branches and two partners (a supermarket
chain and a telecom operator), and every customer belongs to exactly one of these units. Six
segments are planted; each unit has its own mix of them, so that units differ the way real branches
do, and a segmentation can be scored against the truth.

Money is in Turkish lira (TRY) at the level of prices of 2026. Within a segment, income, balance and
card spend are log-normal with a shared factor (who earns more also saves and spends more), and a
small share of customers is lifted by a Pareto factor, which gives the heavy tail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from kesit_simulations.errors import SimulationError

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

CHANNELS: Final = ("branch", "mobile", "web", "call-centre", "partner")
GENDERS: Final = ("female", "male")
# Regions with their rounded shares of the country's population.
_REGION_SHARES: Final = MappingProxyType(
    {
        "marmara": 0.31,
        "ege": 0.13,
        "akdeniz": 0.13,
        "ic-anadolu": 0.16,
        "karadeniz": 0.09,
        "dogu-anadolu": 0.07,
        "guneydogu-anadolu": 0.11,
    }
)
REGIONS: Final = tuple(_REGION_SHARES)

BOUNDS: Final = MappingProxyType(
    {
        "age": (18.0, 90.0),
        "monthly_income": (5_000.0, 5_000_000.0),
        "tenure_years": (0.0, 50.0),
        "balance": (-250_000.0, 50_000_000.0),
        "card_spend": (0.0, 1_000_000.0),
        "products": (0.0, 10.0),
        "digital_logins": (0.0, 100.0),
    }
)
"""Public bounds of the numeric columns; every generated value lies inside them."""


@dataclass(frozen=True)
class Profile:
    """What the customers of one planted segment are like.

    Attributes:
        age, age_sd: mean and standard deviation, years.
        female: probability of gender "female".
        income, balance, spend: medians, TRY (income and card spend per month).
        spread: standard deviation of the logarithm of those three, before the heavy tail.
        overdraft: probability that the balance is negative.
        tenure, products, logins: means (years, number held, digital log-ins per month).
    """

    age: float
    age_sd: float
    female: float
    income: float
    balance: float
    spend: float
    spread: float
    overdraft: float
    tenure: float
    products: float
    logins: float


PROFILES: Final = MappingProxyType(
    {
        "ogrenci": Profile(21, 2.2, 0.52, 14e3, 2.5e3, 6e3, 0.40, 0.020, 2, 1.3, 24),
        "genc-dijital": Profile(29, 3.6, 0.45, 68e3, 22e3, 34e3, 0.40, 0.020, 4, 3.2, 50),
        "konutlu-aile": Profile(38, 5.0, 0.48, 92e3, 35e3, 48e3, 0.38, 0.015, 9, 6.5, 22),
        "esnaf": Profile(47, 7.0, 0.22, 74e3, 110e3, 16e3, 0.50, 0.025, 13, 3.8, 8),
        "varlikli": Profile(58, 7.5, 0.40, 330e3, 2.2e6, 150e3, 0.55, 0.003, 22, 8.0, 14),
        "emekli": Profile(69, 6.5, 0.51, 24e3, 95e3, 7e3, 0.42, 0.005, 27, 2.0, 2),
    }
)
"""Profiles by segment: students, young digital workers, families with a mortgage, small
shopkeepers, affluent customers, pensioners."""

SEGMENTS: Final = tuple(PROFILES)
"""Names of the planted segments; an index into this tuple is a segment's code."""

# Rows follow SEGMENTS, columns CHANNELS: probability of the main channel.
_CHANNEL_MIX: Final = np.array(
    [
        [0.05, 0.78, 0.10, 0.02, 0.05],
        [0.03, 0.74, 0.18, 0.02, 0.03],
        [0.14, 0.55, 0.22, 0.05, 0.04],
        [0.48, 0.30, 0.06, 0.08, 0.08],
        [0.35, 0.34, 0.22, 0.08, 0.01],
        [0.66, 0.08, 0.03, 0.18, 0.05],
    ]
)


@dataclass(frozen=True)
class Unit:
    """A branch or a partner.

    Attributes:
        share: fraction of all customers.
        mix: fraction of each of SEGMENTS among the unit's customers; adds up to 1.
        home: region of a branch, where nine in ten of its customers live; None for a partner, whose
            customers live all over the country and come mostly through channel "partner".
    """

    share: float
    mix: tuple[float, ...]
    home: str | None = None


UNITS: Final = MappingProxyType(
    {
        "sube-kadikoy": Unit(0.25, (0.17, 0.27, 0.19, 0.10, 0.12, 0.15), "marmara"),
        "sube-cankaya": Unit(0.20, (0.20, 0.18, 0.25, 0.08, 0.12, 0.17), "ic-anadolu"),
        "sube-konak": Unit(0.15, (0.15, 0.17, 0.18, 0.16, 0.08, 0.26), "ege"),
        "sube-nilufer": Unit(0.12, (0.12, 0.16, 0.34, 0.17, 0.08, 0.13), "marmara"),
        "sube-muratpasa": Unit(0.08, (0.10, 0.13, 0.15, 0.31, 0.10, 0.21), "akdeniz"),
        "ortak-market": Unit(0.13, (0.13, 0.12, 0.32, 0.19, 0.02, 0.22)),
        "ortak-telekom": Unit(0.07, (0.36, 0.38, 0.11, 0.08, 0.02, 0.05)),
    }
)
"""Branches (sube-...) and partners (ortak-...) by name."""


def generate(customers: int = 60_000, seed: int = 2026) -> pl.DataFrame:
    """Make the bank's customers.

    Args:
        customers: number of rows, at least 1.
        seed: non-negative; the same seed and number of rows give the same table.

    Returns:
        Shape (customers, 13), one row per customer in no particular order: `customer_id` (unique
        text), `unit`, `segment` (the planted truth), `age` (years), `gender`, `region`,
        `monthly_income` (TRY, about 15 % null), `tenure_years`, `balance` (TRY), `card_spend` (TRY
        per month), `products` (number held), `digital_logins` (per month), `channel`.

    Raises:
        SimulationError: `customers` is below 1 or `seed` is negative.
    """
    if customers < 1:
        raise SimulationError(
            f"customers = {customers}, but the bank needs one customer at least.",
            remedy="Set customers to 1 or more.",
        )
    if seed < 0:
        raise SimulationError(f"seed = {seed} is negative.", remedy="Use a seed of 0 or more.")
    rng = np.random.default_rng(seed)
    units = list(UNITS.values())
    unit = _draw_levels(np.tile([u.share for u in units], (customers, 1)), rng)
    segment = _draw_levels(np.array([u.mix for u in units])[unit], rng)
    profile = _spread_profiles(segment)
    age = _clip_round("age", rng.normal(profile["age"], profile["age_sd"]), 0)
    income, balance, spend = _draw_money(profile, rng)
    gender = (rng.random(customers) >= profile["female"]).astype(np.int64)
    return pl.DataFrame(
        {
            "customer_id": pl.Series(10_000_000 + rng.permutation(customers)).cast(pl.String),
            "unit": _name_codes(unit, UNITS),
            "segment": _name_codes(segment, SEGMENTS),
            "age": age.astype(np.int64),
            "gender": _name_codes(gender, GENDERS),
            "region": _name_codes(_draw_region(unit, rng), REGIONS),
            "monthly_income": pl.Series(income).set(_draw_income_missing(age, rng), None),
            "tenure_years": _draw_tenure(profile, age, rng),
            "balance": balance,
            "card_spend": spend,
            "products": _draw_products(profile, rng),
            "digital_logins": _draw_logins(profile, rng),
            "channel": _name_codes(_draw_channel(unit, segment, rng), CHANNELS),
        }
    )


def _draw_levels(probabilities: FloatArray, rng: np.random.Generator) -> IntArray:
    """One level per row of `probabilities`, shape (rows, levels), by inverting the cumulative sum.

    The last level takes what rounding leaves of a cumulative sum just below 1.
    """
    edges = np.cumsum(probabilities, axis=1)[:, :-1]
    levels: IntArray = (rng.random((len(edges), 1)) >= edges).sum(axis=1, dtype=np.int64)
    return levels


def _name_codes(codes: IntArray, names: Iterable[str]) -> pl.Series:
    return pl.Series(list(names)).gather(codes)


def _spread_profiles(segment: IntArray) -> dict[str, FloatArray]:
    """Every parameter of the profiles, as one value per customer."""
    return {
        field.name: np.array([getattr(p, field.name) for p in PROFILES.values()])[segment]
        for field in fields(Profile)
    }


def _clip_round(column: str, values: FloatArray, decimals: int) -> FloatArray:
    low, high = BOUNDS[column]
    return np.clip(np.round(values, decimals), low, high)


def _draw_money(
    profile: dict[str, FloatArray], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Monthly income, balance and monthly card spend, TRY."""
    rows = len(profile["age"])
    wealth = rng.standard_normal(rows)
    # 3 % of customers are lifted by a Pareto factor of shape 1.5: finite mean, no finite variance.
    lift = np.where(rng.random(rows) < 0.03, 1 + rng.pareto(1.5, rows), 1.0)

    def draw(median: FloatArray, shared: float) -> FloatArray:
        noise = shared * wealth + np.sqrt(1 - shared**2) * rng.standard_normal(rows)
        amount: FloatArray = median * lift * np.exp(profile["spread"] * noise)
        return amount

    income = draw(profile["income"], 0.7)
    spend = draw(profile["spend"], 0.6)
    spend[rng.random(rows) < 0.01] = 0.0  # a card that lies in the drawer
    balance = draw(profile["balance"], 0.5)
    # An overdraft is bounded by income, not by what a customer would otherwise have saved.
    owed = -0.8 * income * rng.random(rows)
    balance = np.where(rng.random(rows) < profile["overdraft"], owed, balance)
    return (
        _clip_round("monthly_income", income, 2),
        _clip_round("balance", balance, 2),
        _clip_round("card_spend", spend, 2),
    )


def _draw_income_missing(age: FloatArray, rng: np.random.Generator) -> pl.Series:
    """Which incomes are null: 11 % at random, and 4 % more that falls mostly on older customers."""
    weight = 1 / (1 + np.exp((55 - age) / 6))
    return pl.Series(rng.random(age.size) < 0.11 + 0.04 * weight / weight.mean())


def _draw_tenure(
    profile: dict[str, FloatArray], age: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Years as a customer; nobody opened an account before the age of 15."""
    years = rng.gamma(6.0, profile["tenure"] / 6.0)
    return _clip_round("tenure_years", np.minimum(years, age - 15), 1)


def _draw_products(profile: dict[str, FloatArray], rng: np.random.Generator) -> IntArray:
    return _clip_round("products", rng.normal(profile["products"], 1.1), 0).astype(np.int64)


def _draw_logins(profile: dict[str, FloatArray], rng: np.random.Generator) -> IntArray:
    """Draw counts that vary more than a Poisson: gamma-mixed, so negative binomial."""
    rate = rng.gamma(8.0, profile["logins"] / 8.0)
    return np.minimum(rng.poisson(rate), int(BOUNDS["digital_logins"][1]))


def _draw_region(unit: IntArray, rng: np.random.Generator) -> IntArray:
    nation = np.array(list(_REGION_SHARES.values()))
    by_unit = [
        nation if u.home is None else 0.12 * nation + 0.88 * _all_on(REGIONS, u.home)
        for u in UNITS.values()
    ]
    return _draw_levels(np.array(by_unit)[unit], rng)


def _draw_channel(unit: IntArray, segment: IntArray, rng: np.random.Generator) -> IntArray:
    """Draw the main channel; a partner's customers keep their habits in 40 % of cases only."""
    mix = _CHANNEL_MIX[segment]
    through_partner = np.array([u.home is None for u in UNITS.values()])[unit, None]
    blended = 0.4 * mix + 0.6 * _all_on(CHANNELS, "partner")
    return _draw_levels(np.where(through_partner, blended, mix), rng)


def _all_on(names: tuple[str, ...], chosen: str) -> FloatArray:
    return np.array([float(name == chosen) for name in names])
