"""Noise as a distribution, where it matters: at the opened sum of real, masked answers.

OpenDP's sampler draws from the operating system and cannot be seeded, so these tests can fail by
chance. Each check rejects sound noise with probability `FALSE_ALARM`; about 120 checks see unseeded
noise, so a run of the whole file fails by chance with probability below 1e-4. Seeded noise is the
same in every run.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import kit
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import FloatArray, IntArray
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import Canaries
from kesit_privacy.masking import SharedSecrets, mask, neighbours, new_ephemeral, open_sum
from kesit_privacy.noise import (
    LARGEST_SHARE_VARIANCE,
    SMALLEST_SHARE_VARIANCE,
    NoiseSource,
    SecureNoise,
    SeededNoise,
    standard_deviation,
)
from kesit_privacy.queries import Grid
from kesit_privacy.wire import RefusalCode

FALSE_ALARM = 5e-7
"""Of one check, two-sided."""

COARSE = 12
"""scale_bits of the coarsest lattice that an instruction may name."""

CANARIES = 100


def check_variance(noise: IntArray, variance: Fraction | int) -> None:
    """Σx²/σ² is χ² with as many degrees of freedom as draws, whose mean is known to be 0."""
    total = float((noise.astype(np.float64) ** 2).sum()) / float(variance)
    low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], noise.size)
    assert low <= total <= high, f"variance {total / noise.size:.4f} of what was asked for"


def check_mean(noise: IntArray, variance: Fraction | int) -> None:
    z = float(noise.astype(np.float64).sum()) / math.sqrt(noise.size * variance)
    assert abs(z) <= stats.norm.isf(FALSE_ALARM / 2), f"mean {z:.2f} standard errors from 0"


def check_shape(noise: IntArray, variance: Fraction | int, cells: int = 40) -> None:
    """Pearson's χ² over cells of about equal probability, edges half-way between lattice points.

    On a coarse lattice the expected counts are those of the discrete Gaussian itself.
    """
    sigma = math.sqrt(variance)
    quantiles = np.rint(stats.norm.ppf(np.linspace(0, 1, cells + 1)[1:-1]) * sigma)
    edges = np.unique(quantiles) + 0.5
    if sigma < 2000:
        points = np.arange(-math.ceil(12 * sigma), math.ceil(12 * sigma) + 1)
        weights = np.exp(-(points**2) / (2 * float(variance)))
        cell = np.searchsorted(edges, points)
        expected = np.bincount(cell, weights / weights.sum())
    else:
        expected = np.diff(stats.norm.cdf(edges / sigma), prepend=0, append=1)
    counts = np.bincount(np.searchsorted(edges, noise), minlength=len(expected))
    assert stats.chisquare(counts, expected * noise.size).pvalue >= FALSE_ALARM


def check_independent(first: FloatArray | IntArray, second: FloatArray | IntArray) -> None:
    """Spearman's rank correlation of values, and of their sizes (noise with a shared scale)."""
    for a, b in ((first, second), (np.abs(first), np.abs(second))):
        assert stats.spearmanr(a, b).pvalue >= FALSE_ALARM


def check_noise(runs: list[IntArray], variance: Fraction | int) -> None:
    """All of the above for the opened noise of two runs (9 checks)."""
    first, second = runs
    noise = np.concatenate(runs)
    check_variance(noise, variance)
    check_mean(noise, variance)
    check_shape(noise, variance)
    check_independent(first[:-1], first[1:])  # neighbouring coordinates
    check_independent(*np.array_split(first[: first.size // 2 * 2], 2))
    check_independent(first, second)


def node_noise(
    members: int,
    noise: str,
    *,
    bins: int,
    scale_bits: int,
    variance: int | None = None,
    **study: float,
) -> tuple[list[IntArray], Fraction]:
    """Opened noise of two runs over masked nodes, and the variance that it should have.

    The vectors are a grid's cells and the canaries' coordinates (amplitude 0). Without `variance`,
    the noise is the least that the budget affords.
    """
    colluders = min(1, members - 2)
    roster = {"min_size": members, "max_colluders": colluders}
    agreed = kit.small_study(roster=roster, declared_customers=300, **study)
    codes = kit.random_codes(agreed, 300)
    nodes = kit.small_nodes(agreed, codes, clients=members, noise=noise, masks=True)
    query = Grid(Embedding.of(agreed), (bins, bins), scale_bits)
    changes = {} if variance is None else {"variance": (variance, 1)}
    exact = np.concatenate([query.sum(codes), np.zeros(CANARIES, dtype=np.int64)])
    runs, total = [], Fraction(0)
    for _ in range(2):
        transcript = kit.say_hello(agreed, nodes)
        canaries = Canaries(CANARIES, min(transcript.by_identity), 0)
        order = kit.instruct(
            agreed, transcript, "grid", query, canaries=canaries, length=exact.size, **changes
        )
        answers = [kit.ask(node, order, transcript) for node in nodes]
        assert {code for code, _ in answers} == {RefusalCode.OK}
        runs.append(kit.opened([payload for _, payload in answers], order) - exact)
        total = members * order.share_variance
    return runs, total


def masked_noise(members: int, source: NoiseSource, variance: int, size: int) -> IntArray:
    """Opened noise of members that mask and add up nothing but noise: no node, no budget."""
    identities = sorted(Identity.from_seed(bytes([n] * 32)).public for n in range(members))
    keys = {identity: new_ephemeral() for identity in identities}
    answers = []
    for me in identities:
        shared = SharedSecrets(keys[me][0])
        answers.append(
            mask(
                source.sample(Fraction(variance), size),
                me=me,
                secrets={peer: shared(keys[peer][1]) for peer in neighbours(identities, me)},
                salt=bytes(32),
                instruction=bytes(32),
            )
        )
    return open_sum(answers)


SECURE_GRIDS = {2: 100, 3: 100, 41: 40}
"""Bins an axis: 10,000 coordinates a run for few members, 1,800 for 41 (OpenDP: 20 µs a draw)."""


@pytest.mark.parametrize("members", SECURE_GRIDS)
def test_opened_noise_is_gaussian_at_an_ordinary_budget(members: int) -> None:
    runs, variance = node_noise(members, "secure", bins=SECURE_GRIDS[members], scale_bits=28)
    check_noise(runs, variance)


@pytest.mark.parametrize("members", SECURE_GRIDS)
def test_opened_noise_is_gaussian_on_the_coarsest_lattice(members: int) -> None:
    """The finest noise that any study can pay for (ε = 100) on the coarsest lattice."""
    bins = SECURE_GRIDS[members]
    runs, variance = node_noise(members, "secure", bins=bins, scale_bits=COARSE, epsilon=100.0)
    assert variance < 4096**2  # under one customer's weight: the lattice is coarse for it
    check_noise(runs, variance)


@pytest.mark.parametrize("members", SECURE_GRIDS)
def test_opened_noise_is_gaussian_when_it_is_huge(members: int) -> None:
    bins = SECURE_GRIDS[members]
    runs, variance = node_noise(members, "secure", bins=bins, scale_bits=28, variance=1 << 100)
    check_noise(runs, variance)


@pytest.mark.parametrize("members", SECURE_GRIDS)
def test_shares_of_four_lattice_units_add_up(members: int) -> None:
    """The smallest share that a client gives: the sum has lost nothing to the lattice."""
    size = SECURE_GRIDS[members] ** 2
    source = SecureNoise()
    runs = [masked_noise(members, source, SMALLEST_SHARE_VARIANCE, size) for _ in range(2)]
    check_noise(runs, members * SMALLEST_SHARE_VARIANCE)


@pytest.mark.slow
def test_a_thousand_shares_of_four_lattice_units_add_up() -> None:
    source = SecureNoise()
    shares = np.stack([source.sample(Fraction(16), 300) for _ in range(1000)])
    check_variance(shares, 16)
    check_mean(shares, 16)
    check_shape(shares.ravel(), 16)
    total = shares.sum(axis=0)
    check_variance(total, 16_000)
    check_mean(total, 16_000)
    check_shape(total, 16_000, cells=10)
    check_independent(shares[:, 0], shares[:, 1])
    check_independent(shares[0], shares[1])


def test_shares_below_the_lattice_would_collapse() -> None:
    """Why rule 8 refuses them: shares of σ = 0.1 units promise a sum of σ = 3.2 and give none.

    A share is off zero with probability 2·exp(-50), so 2,000 of them all are with 1e-18.
    """
    shares = [SecureNoise().sample(Fraction(1, 100), 2) for _ in range(1000)]
    assert not np.any(shares)


@pytest.mark.parametrize("noise", ["secure", "seeded"])
def test_a_share_under_four_lattice_units_is_refused(noise: str) -> None:
    study = kit.small_study()
    nodes = kit.small_nodes(study, kit.random_codes(study, 100), noise=noise)
    query = Grid(Embedding.of(study), (2, 2), COARSE)
    expected = {
        (15, 1): RefusalCode.BAD_REQUEST,
        (159_999, 10_000): RefusalCode.BAD_REQUEST,
        (1, 100): RefusalCode.BAD_REQUEST,
        (16, 1): RefusalCode.NOT_IN_PLAN,  # fine enough, but no plan can pay for it
    }
    for variance, code in expected.items():
        transcript = kit.say_hello(study, nodes)
        order = kit.instruct(study, transcript, "grid", query, variance=variance)
        assert kit.ask(nodes[0], order, transcript) == (code, b"")


@pytest.mark.parametrize("members", [2, 3, 41])
def test_seeded_noise_is_gaussian_at_the_opened_sum(members: int) -> None:
    """The simulations' source, with enough coordinates to notice one share too few or many."""
    runs, variance = node_noise(members, "seeded", bins=400, scale_bits=28)
    check_noise(runs, variance)
    with pytest.raises(AssertionError):
        check_variance(np.concatenate(runs), variance * Fraction(members + 1, members))
    with pytest.raises(AssertionError):
        check_variance(np.concatenate(runs), variance * Fraction(members - 1, members))


def test_seeded_members_draw_independently_and_repeatably() -> None:
    draws = [SeededNoise(0, 3, place).sample(Fraction(1 << 40), 20_000) for place in range(4)]
    for place in range(3):
        check_independent(draws[place], draws[place + 1])
    again = SeededNoise(0, 3, 2).sample(Fraction(1 << 40), 20_000)
    np.testing.assert_array_equal(draws[2], again)
    assert not np.array_equal(draws[2], SeededNoise(1, 3, 2).sample(Fraction(1 << 40), 20_000))


def test_secure_members_draw_independently() -> None:
    first, second = (SecureNoise().sample(Fraction(1 << 40), 10_000) for _ in range(2))
    check_independent(first, second)


def test_the_checks_find_planted_faults() -> None:
    """The power of the checks above, at the smallest number of coordinates that they see."""
    rng = np.random.default_rng(0)
    size, variance = 1780, 1 << 20
    sound = [np.rint(rng.normal(0, 1 << 10, size)).astype(np.int64) for _ in range(2)]
    check_noise(sound, variance)
    scale = rng.choice([0.3, 1.38], size)
    faults = {
        "a third of the variance missing": [np.rint(x * math.sqrt(2 / 3)) for x in sound],
        "shifted": [x + 200 for x in sound],
        "uniform": [np.rint(rng.uniform(-1, 1, size) * 1024 * math.sqrt(3)) for _ in sound],
        "the same in both runs": [sound[0], sound[0]],
        "the same in pairs of coordinates": [np.repeat(x[::2], 2) for x in sound],
        "a scale shared by both runs": [x * scale for x in sound],
    }
    for runs in faults.values():
        with pytest.raises(AssertionError):
            check_noise([np.asarray(run).astype(np.int64) for run in runs], variance)


def positive_fractions() -> st.SearchStrategy[Fraction]:
    whole = st.integers(1, 1 << 120)
    return st.builds(Fraction, whole, st.integers(1, 1 << 60))


@given(positive_fractions())
def test_the_standard_deviation_never_rounds_down(variance: Fraction) -> None:
    scale = standard_deviation(variance)
    assert Fraction(scale) ** 2 >= variance
    assert Fraction(math.nextafter(scale, 0.0)) ** 2 < variance


@pytest.mark.parametrize(
    "variance",
    [16, 17, (1 << 53) + 1, 10**16 + 1, LARGEST_SHARE_VARIANCE - 1, LARGEST_SHARE_VARIANCE],
)
def test_the_standard_deviation_of_whole_variances_never_rounds_down(variance: int) -> None:
    scale = standard_deviation(Fraction(variance))
    assert Fraction(scale) ** 2 >= variance
    assert Fraction(math.nextafter(scale, 0.0)) ** 2 < variance
