"""IBM's diffprivlib: logistic regression by objective perturbation, with a trusted curator.

Chaudhuri, Monteleoni and Sarwate, "Differentially Private Empirical Risk Minimization", JMLR 12
(2011), as `diffprivlib.models.LogisticRegression` 0.6.6 does it: a random linear term is added to
the loss, and what minimises the sum is released. Pure ε for *exchanging* one customer, with a
public number of rows; δ is left unused. Several classes are one-vs-rest, ε divided evenly.

What to know when reading its results (`models/logistic_regression.py`, `mechanisms/vector.py`):

* The loss of a row of norm R (the intercept's 1 included) bends by up to R²/4; the mechanism
  reckons with R/4. By its own proof a fit spends more than its ε where R > 1: `overspending`.
* The proof is about the exact minimum; L-BFGS stops near it. And scikit-learn's penalty leaves out
  the intercept, where the proof wants every coordinate penalised.
* Which classes there are is read off the training rows.

The baseline runs the library as it is, at its nominal ε: that is what a user would get. Its one
parameter that must not come from the data, `data_norm`, is the public schema's (`problem.norm`);
left out, the library takes it from the data and says so (`PrivacyLeakWarning`).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_simulations.classifier_baselines.problem import ClassifierProblem, spread
from kesit_simulations.classifier_baselines.tuning import tuned
from kesit_simulations.errors import SimulationError

STREAM = 1
ROUNDING = 1e-12
"""A row at the bound must not be clipped for the last bit of its norm."""

CURVATURE = 0.25
"""The largest second derivative of the logistic loss."""


@dataclass(frozen=True)
class Settings:
    """The library's default, unless said otherwise.

    Attributes:
        c: inverse strength of the L2 penalty on the summed loss (scikit-learn's C).
        unit: whether rows are divided by the largest norm first, as the paper assumes; this
            strengthens the penalty beside the data, and the noise with it.
    """

    c: float = 1.0
    unit: bool = False


GRID = tuple(Settings(c, unit) for c, unit in product((0.001, 0.01, 0.03, 0.1), (False, True)))
"""Private fits want far stronger penalties than the default."""


def diffprivlib_logistic(problem: ClassifierProblem) -> FloatArray:
    """`diffprivlib.models.LogisticRegression`, default settings; shape (held out, classes).

    Raises:
        SimulationError: diffprivlib is not installed.
    """
    return private_logistic(problem, Settings())


def diffprivlib_tuned(problem: ClassifierProblem) -> FloatArray:
    """The same with the best of `GRID`, which `tuning` finds for nothing.

    Raises:
        SimulationError: diffprivlib is not installed.
    """
    return tuned(problem, GRID, private_logistic)


def private_logistic(problem: ClassifierProblem, settings: Settings) -> FloatArray:
    """`diffprivlib_logistic` with other settings than the default."""
    try:
        from diffprivlib.accountant import BudgetAccountant
        from diffprivlib.models import LogisticRegression
    except ImportError as error:
        raise SimulationError(
            "This baseline needs the package diffprivlib, which is not installed.",
            remedy="pip install 'kesit[simulation]'",
        ) from error
    from sklearn.exceptions import ConvergenceWarning

    norm = 1.0 if settings.unit else problem.norm
    rows = problem.x * (norm / problem.norm)
    model = LogisticRegression(
        epsilon=problem.epsilon,
        data_norm=norm * (1 + ROUNDING),
        C=settings.c,
        random_state=int(problem.generator(STREAM).integers(1 << 31)),
        accountant=BudgetAccountant(),  # the library's own would add up a whole sweep
    )
    with warnings.catch_warnings():
        # Little ε makes a random linear term so steep that 100 steps do not reach the minimum.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # diffprivlib passes SciPy an argument that SciPy 1.18 drops; it changes nothing here.
        warnings.filterwarnings("ignore", "scipy.optimize: The `disp`", DeprecationWarning)
        model.fit(rows[problem.train], problem.labels[problem.train])
    scores = model.decision_function(rows[~problem.train])
    return spread(one_vs_rest(scores), model.classes_, problem.classes)


def one_vs_rest(scores: FloatArray) -> FloatArray:
    """Probabilities from log odds, as scikit-learn's one-vs-rest has them, shape (n, classes).

    In logarithms: scikit-learn's own divide 0 by 0 where noise drives all log odds below -745.

    Args:
        scores: (n,) log odds of class 1 of two, or (n, classes), each class against the rest.
    """
    if scores.ndim == 1:
        scores = np.column_stack([-scores, scores])
    logs = -np.logaddexp(0, -scores)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    probabilities: FloatArray = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def overspending(norm: float, epsilon: float, c: float = 1.0) -> float:
    """The ε that the paper's proof gives a two-class fit of diffprivlib 0.6.6, over its own.

    A curvature b under a penalty of Λ on the summed loss costs 2·ln(1 + b/Λ); the rest of ε is for
    the linear term. diffprivlib reckons with b = R/4 for R = √(norm² + 1). If Λ = 1/C leaves
    nothing, it raises the penalty until the curvature costs ε/2. The true bound is b = R²/4. The
    intercept, which gets only what was added, is passed over: this is the least that must be said.
    """
    radius = math.sqrt(norm**2 + 1)
    penalty = 1 / c
    linear = epsilon - 2 * math.log1p(CURVATURE * radius / penalty)
    if linear <= 0:
        penalty, linear = CURVATURE * radius / math.expm1(epsilon / 4), epsilon / 2
    return (linear + 2 * math.log1p(CURVATURE * radius**2 / penalty)) / epsilon
