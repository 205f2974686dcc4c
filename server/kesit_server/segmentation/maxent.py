"""Maximum entropy: weights for synthetic customers that explain every released sum at once.

Given m synthetic customers with prior shares p⁰ and noisy sums y_s (noise σ_s on each coordinate),
the weights N·p solve

    min over p:  α·N·KL(p ‖ p⁰) + Σ_s Σ_j (N·A_sᵀp - y_s)_j² / (2·(σ_s² + τ_sj²))

where row i of A_s is what customer i would add to sum s. The second term is the likelihood of the
noise; the first keeps everything that the sums do not speak of as the prior has it, so noise is
averaged over all sums instead of being followed in each. τ_sj² = `GRAIN`·(N/m)²·Σ_i A_s[i,j]² is
the variance that m customers cannot avoid: where there is hardly any noise, weights that reproduced
every sum to the last digit would rest on a few odd customers. It is maximum entropy with a squared
penalty (Dudík, Phillips and Schapire 2007, "Maximum entropy density estimation with generalized
regularization", JMLR 8, section 4). Its dual is smooth and convex in θ, one number a coordinate:

    min over θ:  α·N·log Σ_i p⁰_i·exp(a_i·θ/α) + ‖θ‖²/2 - θ·y,   p_i ∝ p⁰_i·exp(a_i·θ/α)

with each coordinate in units of √(σ² + τ²). Nothing here sees data: sums are released already.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array, vstack

from kesit_privacy.features import FloatArray

PRIOR_WEIGHT = 0.1
"""α. The prior (a product of marginals) is a rough guess: it counts as a tenth of its customers."""

GRAIN = 3.0
"""How much coarser than a sample of as many customers the synthetic ones may be, in variance."""

ITERATIONS = 60


class Fit:
    """Synthetic customers beside the sums that their weights are to explain.

    Args:
        responses: of each sum, (m, length): what each customer would add.
        sigmas: of each sum, the standard deviation of its noise.
        total: N, what the weights add up to.
        prior: (m,) shares before any sum is known; flat if left out.
    """

    def __init__(
        self,
        responses: Sequence[csr_array],
        sigmas: Sequence[float],
        total: float,
        prior: FloatArray | None = None,
    ) -> None:
        customers = responses[0].shape[0]
        sums = csr_array(vstack([part.T for part in responses], format="csr"))  # (all lengths, m)
        noise = np.repeat(sigmas, [part.shape[1] for part in responses]) ** 2
        grain = GRAIN * (total / customers) ** 2 * sums.multiply(sums).sum(axis=1)
        self._scale = 1 / np.sqrt(noise + grain)
        self._sums = csr_array(sums.multiply(self._scale[:, None]))
        self._rows = csr_array(self._sums.T)
        self._total = total
        shares = np.full(customers, 1 / customers) if prior is None else prior / prior.sum()
        self._log_prior = np.log(shares)

    def weights(self, values: Sequence[FloatArray]) -> FloatArray:
        """Weights (m,), positive, that explain these values of the sums."""
        wanted = np.concatenate(values) * self._scale

        def dual(theta: FloatArray) -> tuple[float, FloatArray]:
            shares, log_mass = self._shares(theta)
            value = PRIOR_WEIGHT * self._total * log_mass + 0.5 * theta @ theta - theta @ wanted
            return float(value), self._total * (self._sums @ shares) + theta - wanted

        start, options = np.zeros(len(wanted)), {"maxiter": ITERATIONS}
        found = minimize(dual, start, jac=True, method="L-BFGS-B", options=options)
        weights: FloatArray = self._total * self._shares(found.x)[0]
        return weights

    def _shares(self, theta: FloatArray) -> tuple[FloatArray, float]:
        """p, and the logarithm of what it was divided by."""
        scores = self._log_prior + self._rows @ (theta / PRIOR_WEIGHT)
        top = scores.max()
        weights = np.exp(scores - top)
        mass = weights.sum()
        return weights / mass, float(top + np.log(mass))
