"""IBM's diffprivlib, whose `KMeans` follows Su et al. (2016): a trusted curator, pure ε.

Two things to know when reading its results (diffprivlib 0.6.6, `models/k_means.py`):

* `_split_epsilon` returns the shares of a coordinate's sum and of a count in the order in which
  `_update_centers` does *not* unpack them: a count gets the share meant for a coordinate and each
  of the d coordinates that meant for a count. A fit then spends (1 + d·e)/(d + e) of its ε, with
  e = ∛(4d·0.225²): 0.91 at d = 2, but 2.28 at d = 64. `overspending` gives the factor.
* A cluster without a row is skipped without noise, so that it is visible that there was none.

The baseline runs the library as it is, at its nominal ε: that is what a user would get.
"""

from __future__ import annotations

import math

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_simulations.baselines.problem import Problem
from kesit_simulations.errors import SimulationError

RHO = 0.225


def diffprivlib_kmeans(problem: Problem) -> FloatArray:
    """`diffprivlib.models.KMeans` on all rows, bounds [0, 1] in each coordinate; centres (k, d).

    Raises:
        SimulationError: diffprivlib is not installed, or there are fewer rows than k.
    """
    try:
        from diffprivlib.accountant import BudgetAccountant
        from diffprivlib.models import KMeans
    except ImportError as error:
        raise SimulationError(
            "The baseline diffprivlib needs the package diffprivlib, which is not installed.",
            remedy="pip install 'kesit[simulation]'",
        ) from error

    if len(problem.rows) < problem.k:
        raise SimulationError(
            f"diffprivlib finds no {problem.k} clusters in {len(problem.rows)} rows.",
            remedy="Use at least k rows, or leave out this baseline.",
        )
    model = KMeans(
        problem.k,
        epsilon=problem.epsilon,
        bounds=(0.0, 1.0),
        random_state=problem.random_state,
        accountant=BudgetAccountant(),  # the library's own would add up a whole sweep
    )
    model.fit(problem.rows)
    centres: FloatArray = np.clip(model.cluster_centers_, 0, 1)
    return centres


def overspending(dimensions: int) -> float:
    """The ε that a fit of diffprivlib 0.6.6 spends, over the ε that it was given."""
    count = math.cbrt(4 * dimensions * RHO**2)
    return (1 + dimensions * count) / (dimensions + count)
