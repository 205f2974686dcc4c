"""The accountant against `dp_accounting`'s own answers, and its roundings in exact arithmetic."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import dp_accounting
import pytest
from dp_accounting import pld, rdp
from hypothesis import assume, given
from hypothesis import strategies as st

from kesit_privacy import accounting
from kesit_privacy.accounting import UNITS_PER_MU2, GaussianFilter, RdpPot
from kesit_privacy.errors import BudgetError

EPSILONS = (0.01, 0.1, 0.5, 1.0, 3.0, 10.0)
DELTAS = (1e-12, 1e-8, 1e-6, 1e-5, 1e-3)
GRID = list(itertools.product(EPSILONS, DELTAS))

epsilons = st.floats(1e-3, 100)
deltas = st.floats(-12, -1.1).map(lambda power: 10.0**power)
prices = st.fixed_dictionaries(
    {
        "delta_sq": st.integers(1, 1 << 70),
        "multiplicity": st.integers(1, 1000),
        "roster": st.integers(2, 1000),
        "colluders": st.integers(0, 1),
    }
)


def composed(
    accountant: dp_accounting.PrivacyAccountant, *events: dp_accounting.DpEvent
) -> dp_accounting.PrivacyAccountant:
    """The accountant after these events."""
    for event in events:
        accountant.compose(event)
    return accountant


def pld_accountant() -> dp_accounting.PrivacyAccountant:
    return pld.PLDAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        value_discretization_interval=1e-4,
    )


@pytest.mark.parametrize(("epsilon", "delta"), GRID)
def test_a_budget_is_the_analytic_gaussian_and_a_hair_less(epsilon: float, delta: float) -> None:
    sigma = dp_accounting.get_sigma_gaussian(epsilon, delta)
    units = accounting.budget_units(epsilon, delta)
    assert units <= UNITS_PER_MU2 / sigma**2
    # The margin is 1e-9 of σ, hence 2e-9 of μ²; one unit more for rounding down.
    assert units >= UNITS_PER_MU2 / sigma**2 * (1 - 3e-9) - 1
    assert accounting.epsilon(units, delta) == pytest.approx(epsilon, rel=1e-6)
    assert accounting.mu(units) == pytest.approx(1 / sigma, rel=1e-8)


@given(epsilon=epsilons, delta=deltas)
def test_a_budget_never_exceeds_the_epsilon_that_it_stands_for(
    epsilon: float, delta: float
) -> None:
    units = accounting.budget_units(epsilon, delta)
    assert accounting.epsilon(units, delta) <= epsilon
    assert dp_accounting.get_epsilon_gaussian(1 / accounting.mu(units), delta) <= epsilon


@given(epsilon=epsilons, delta=deltas, factor=st.floats(1.001, 10))
def test_more_epsilon_or_more_delta_is_more_budget(
    epsilon: float, delta: float, factor: float
) -> None:
    units = accounting.budget_units(epsilon, delta)
    assert accounting.budget_units(epsilon * factor, delta) > units
    assert accounting.budget_units(epsilon, min(0.5, delta * factor)) > units


@pytest.mark.parametrize("delta", [1e-8, 1e-5, 1e-3])
@pytest.mark.parametrize("parts", [(1,), (1, 1), (15, 45, 20, 20), (1, 100)])
def test_sums_compose_as_in_the_pld_accountant(parts: tuple[int, ...], delta: float) -> None:
    """μ² adds up: one Gaussian of the whole cost has the ε of its parts composed numerically.

    `PLDAccountant` is pessimistic: it rounds each part's privacy loss up to its grid of 1e-4 and
    counts a truncated tail (1e-15 of mass or so) as lost, so it may exceed the exact ε by at most
    1e-4 a part, and a few 1e-4 more; it may not fall short of it but by floating point.
    """
    total = accounting.budget_units(2.0, delta)
    costs = [total * part // sum(parts) for part in parts]
    accountant = composed(pld_accountant(), *(accounting.event(cost) for cost in costs))
    exact = accounting.epsilon(sum(costs), delta)
    assert exact - 1e-6 <= accountant.get_epsilon(delta) <= exact + 1e-4 * len(parts) + 3e-4


@given(costs=st.lists(st.integers(1 << 20, 1 << 47), min_size=1, max_size=6))
def test_sums_compose_as_in_the_rdp_accountant(costs: list[int]) -> None:
    """A Gaussian's RDP is α·μ²/2 at order α: the sum of costs is the sum of RDP, to rounding."""
    orders = [2.0, 10.0, 100.0]
    events = [accounting.event(cost) for cost in costs]
    apart = composed(rdp.RdpAccountant(orders), *events)
    together = composed(rdp.RdpAccountant(orders), accounting.event(sum(costs)))
    for delta in (1e-9, 1e-5):
        assert apart.get_epsilon(delta) == pytest.approx(together.get_epsilon(delta), rel=1e-9)


@pytest.mark.parametrize(("epsilon", "delta"), GRID)
def test_rdp_bounds_the_exact_epsilon_from_above(epsilon: float, delta: float) -> None:
    """RDP is an upper bound for the same Gaussian, and not more than 40 % above it on this grid."""
    units = accounting.budget_units(epsilon, delta)
    bound = composed(rdp.RdpAccountant(), accounting.event(units)).get_epsilon(delta)
    assert accounting.epsilon(units, delta) <= bound
    if epsilon >= 0.5 and delta <= 1e-5:
        assert bound <= 1.4 * epsilon


def test_nothing_costs_nothing() -> None:
    assert accounting.epsilon(0, 1e-5) == 0.0
    assert isinstance(accounting.event(0), dp_accounting.NoOpDpEvent)
    assert accounting.mu(UNITS_PER_MU2) == 1.0


@given(units=st.integers(1, 1 << 56), delta=deltas)
def test_every_cost_has_an_epsilon_without_a_warning(units: int, delta: float) -> None:
    assert 0 <= accounting.epsilon(units, delta) < math.inf


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        (0.0, 1e-5),
        (-1.0, 1e-5),
        (math.nan, 1e-5),
        (math.inf, 1e-5),
        (1.0, 0.0),
        (1.0, 1.0),
        (1.0, -1e-5),
        (1.0, math.nan),
    ],
)
def test_a_budget_of_nonsense_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(BudgetError, match="epsilon"):
        accounting.budget_units(epsilon, delta)


# Charges and variances.


def exact_cost(price: dict[str, int], variance: Fraction) -> Fraction:
    """μ² in units, unrounded: m²Δ²/((n - c)·v)."""
    noise = (price["roster"] - price["colluders"]) * variance
    return Fraction(price["multiplicity"] ** 2 * price["delta_sq"]) / noise * UNITS_PER_MU2


@given(
    price=prices,
    variance=st.fractions(Fraction(1, 10**6), 10**30).filter(lambda value: value > 0),
)
def test_a_charge_is_the_exact_cost_rounded_up(price: dict[str, int], variance: Fraction) -> None:
    assume(price["roster"] > price["colluders"])
    units = accounting.charge_units(share_variance=variance, **price)
    exact = exact_cost(price, variance)
    assert exact <= units < exact + 1


@given(price=prices, units=st.integers(1, 1 << 60))
def test_a_variance_is_the_smallest_that_the_budget_pays(price: dict[str, int], units: int) -> None:
    variance = accounting.share_variance(units, **price)
    assert variance.denominator == 1
    assert accounting.charge_units(share_variance=variance, **price) <= units
    if variance > 1:
        assert exact_cost(price, variance - 1) > units


@given(price=prices, variance=st.integers(1, 1 << 108))
def test_charge_and_variance_are_inverse(price: dict[str, int], variance: int) -> None:
    """Going there and back costs the same to the unit, with no more noise than before."""
    units = accounting.charge_units(share_variance=Fraction(variance), **price)
    back = accounting.share_variance(units, **price)
    assert back <= variance
    assert accounting.charge_units(share_variance=back, **price) == units


@given(price=prices, variance=st.integers(16, 1 << 60))
def test_the_charge_follows_the_formula_of_one_gaussian(
    price: dict[str, int], variance: int
) -> None:
    """The event of a charge is a Gaussian of multiplier σ/(mΔ), σ² the noise of n - c shares."""
    units = accounting.charge_units(share_variance=Fraction(variance), **price)
    assume(1 << 30 <= units <= 1 << 56)
    sigma = math.sqrt((price["roster"] - price["colluders"]) * variance)
    multiplier = sigma / (price["multiplicity"] * math.sqrt(price["delta_sq"]))
    assert accounting.event(units).noise_multiplier == pytest.approx(multiplier, rel=1e-8)


@pytest.mark.parametrize(
    ("roster", "colluders", "variance"), [(1, 1, 16), (3, 5, 16), (3, 1, 0), (3, 1, -1), (0, 0, 1)]
)
def test_no_noise_to_hide_in_is_refused(roster: int, colluders: int, variance: int) -> None:
    with pytest.raises(BudgetError, match="no noise to hide in"):
        accounting.charge_units(
            delta_sq=1,
            multiplicity=1,
            share_variance=Fraction(variance),
            roster=roster,
            colluders=colluders,
        )


@pytest.mark.parametrize(("units", "roster"), [(0, 3), (-1, 3), (1, 1)])
def test_no_budget_buys_no_variance(units: int, roster: int) -> None:
    with pytest.raises(BudgetError, match="Nothing is left"):
        accounting.share_variance(units, delta_sq=1, multiplicity=1, roster=roster, colluders=1)


# The filter.


@given(cap=st.integers(0, 1000), data=st.data())
def test_a_filter_never_exceeds_its_cap(cap: int, data: st.DataObject) -> None:
    """Whoever spends sees all that happened before choosing the next cost."""
    books = GaussianFilter(cap)
    accepted = 0
    for _ in range(data.draw(st.integers(0, 20))):
        tempting = st.sampled_from([books.left - 1, books.left, books.left + 1])
        units = data.draw(tempting | st.integers(-5, cap + 5))
        allowed = books.allows(units)
        assert allowed == (0 <= units <= cap - accepted)
        if allowed:
            books = books.charge(units)
            accepted += units
        else:
            with pytest.raises(BudgetError):
                books.charge(units)
        assert books.spent == accepted <= cap
        assert books.left == cap - accepted


def test_a_refused_charge_spends_nothing_and_says_what_is_left() -> None:
    books = GaussianFilter(UNITS_PER_MU2).charge(3 * UNITS_PER_MU2 // 4)
    with pytest.raises(BudgetError, match=r"0\.5 exceeds what is left \(0\.25 of 1\)"):
        books.charge(UNITS_PER_MU2 // 2)
    assert books.spent == 3 * UNITS_PER_MU2 // 4


def test_an_overdrawn_filter_has_nothing_left() -> None:
    books = GaussianFilter(cap=10, spent=15)  # a cap that its owner lowered
    assert books.left == 0
    assert not books.allows(1)
    assert not books.allows(0)


# The pot for other mechanisms.


def dp_sgd(steps: int, noise: float = 2.0) -> dp_accounting.DpEvent:
    """Poisson-subsampled Gaussians."""
    step = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, steps)


def test_the_pot_spends_what_the_rdp_accountant_says() -> None:
    pot = RdpPot.open(3.0, 1e-6)
    events = [dp_sgd(100), dp_accounting.GaussianDpEvent(8.0), dp_sgd(500, 1.5)]
    for count, event in enumerate(events, start=1):
        pot = pot.charge(event)
        alone = composed(rdp.RdpAccountant([pot.order]), *events[:count])
        assert pot.spent() == pytest.approx(alone.get_epsilon(1e-6), rel=1e-12)
        # One fixed order can only be worse than the best of many chosen afterwards.
        orders = [pot.order, *(float(order) for order in range(2, 200))]
        best = composed(rdp.RdpAccountant(orders), *events[:count])
        assert pot.spent() >= best.get_epsilon(1e-6)
    assert pot.events == tuple(events)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (1.0, 1e-5), (3.0, 1e-8), (8.0, 1e-3)])
def test_the_pot_refuses_before_it_is_overdrawn(epsilon: float, delta: float) -> None:
    pot = RdpPot.open(epsilon, delta)
    assert pot.spent() == 0.0
    event = accounting.event(accounting.budget_units(epsilon, delta) // 20)
    accepted = 0
    while True:
        try:
            pot = pot.charge(event)
        except BudgetError:
            break
        accepted += 1
    assert pot.spent() <= epsilon
    assert 1 <= len(pot.events) == accepted < 20
    assert pot.spent(event) > epsilon
    # What a refusal left behind still takes what fits.
    smaller = pot.charge(dp_accounting.GaussianDpEvent(1e4))
    assert pot.spent() < smaller.spent() <= epsilon


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (1.0, 1e-5), (3.0, 1e-8), (8.0, 1e-3)])
def test_the_order_of_the_pot_is_the_best_for_a_gaussian(epsilon: float, delta: float) -> None:
    """No other order pays for a larger μ²: `allowed` inverts the accountant's own conversion."""

    def largest_mu2(order: float) -> float:
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            event = dp_accounting.GaussianDpEvent(1 / math.sqrt(middle))
            spent = composed(rdp.RdpAccountant([order]), event).get_epsilon(delta)
            low, high = (middle, high) if spent <= epsilon else (low, middle)
        return low

    chosen = RdpPot.open(epsilon, delta).order
    rivals = [1.5, 2.0, 5.0, 10.0, 30.0, 60.0, 200.0, 1000.0, chosen - 0.1, chosen + 0.1]
    best = largest_mu2(chosen)
    assert best > 0
    assert all(largest_mu2(order) <= best * (1 + 1e-9) for order in rivals)


def test_a_pot_that_cannot_price_an_event_takes_none() -> None:
    pot = RdpPot.open(1.0, 1e-5)
    with pytest.raises(BudgetError):
        pot.charge(dp_accounting.NonPrivateDpEvent())
    with pytest.raises(dp_accounting.UnsupportedEventError):
        pot.charge(dp_accounting.UnsupportedDpEvent())
    assert pot.spent() == 0.0
