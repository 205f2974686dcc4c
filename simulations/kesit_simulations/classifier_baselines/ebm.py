"""DP-EBM: private additive models of small random trees, with a trusted curator (InterpretML).

Nori, Caruana, Bu, Shen and Kulkarni, "Accuracy, Interpretability, and Differential Privacy via
Explainable Boosting", ICML 2021, as `interpret.privacy.DPExplainableBoostingClassifier` of
interpret-core 0.7 does it: noisy histograms of the features (a tenth of ε, half of δ), then rounds
of noisy sums of residuals, composed as Gaussian differential privacy. It knows two classes only.

Types, bounds and bins come from the public schema, so the library warns of none of them. Two things
it reads off the training rows all the same: their number, and which levels of a category occur at
all. A missing number, which it cannot take, stands in a cell of its own below the lower bound if
its feature may be missing, and in the middle of the bounds otherwise.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product

import numpy as np

from kesit_privacy.features import FloatArray, Numeric
from kesit_simulations.classifier_baselines.design import MIDDLE
from kesit_simulations.classifier_baselines.problem import ClassifierProblem
from kesit_simulations.classifier_baselines.tuning import tuned
from kesit_simulations.errors import SimulationError

STREAM = 3


@dataclass(frozen=True)
class Settings:
    """The library's parameters by its own names, with its defaults.

    Attributes:
        max_rounds: rounds over all features.
        learning_rate: of a round's step.
        max_leaves: leaves of a random tree; a leaf's sum bears one noise.
        max_bins: bins of a feature.
    """

    max_rounds: int = 300
    learning_rate: float = 0.01
    max_leaves: int = 3
    max_bins: int = 32


GRID = tuple(
    Settings(rounds, rate, leaves, bins)
    for (rounds, rate), leaves, bins in product(((20, 0.2), (300, 0.02)), (3, 8), (32, 64))
)
"""Where the best of wider looks at other divisions of adult, bank and telco lay."""


def dp_ebm(problem: ClassifierProblem) -> FloatArray:
    """DP-EBM with the library's default settings; shape (held out, 2).

    Raises:
        SimulationError: interpret-core is not installed, or there are more than two classes.
    """
    return private_ebm(problem, Settings())


def dp_ebm_tuned(problem: ClassifierProblem) -> FloatArray:
    """DP-EBM with the best of `GRID`, which `tuning` finds for nothing; shape (held out, 2).

    Raises:
        SimulationError: as `dp_ebm`.
    """
    return tuned(problem, GRID, private_ebm)


def private_ebm(problem: ClassifierProblem, settings: Settings) -> FloatArray:
    """`dp_ebm` with other settings than the default."""
    try:
        from interpret.privacy import DPExplainableBoostingClassifier
    except ImportError as error:
        raise SimulationError(
            "DP-EBM needs the package interpret-core, which is not installed.",
            remedy="pip install 'kesit[simulation]'",
        ) from error
    if problem.classes > 2:
        raise SimulationError(
            f"DP-EBM knows two classes, not {problem.classes}.",
            remedy="Leave out this baseline, or make the target a yes or no.",
        )
    rows, bounds = bounded_table(problem, settings.max_bins)
    numeric = [isinstance(feature, Numeric) for feature in problem.features]
    model = DPExplainableBoostingClassifier(
        feature_names=[feature.name for feature in problem.features],
        feature_types=["continuous" if one else "nominal" for one in numeric],
        max_bins=settings.max_bins,
        learning_rate=settings.learning_rate,
        max_rounds=settings.max_rounds,
        max_leaves=settings.max_leaves,
        n_jobs=1,
        random_state=int(problem.generator(STREAM).integers(1 << 31)),
        epsilon=problem.epsilon,
        delta=problem.delta,
        privacy_bounds=bounds,
    )
    with warnings.catch_warnings():
        # A seed lets who knows it subtract the noise; a benchmark must repeat.
        warnings.filterwarnings("ignore", "Privacy violation: using a fixed random_state")
        model.fit(rows[problem.train], problem.labels[problem.train])
    probabilities: FloatArray = model.predict_proba(rows[~problem.train])
    return probabilities


def bounded_table(
    problem: ClassifierProblem, max_bins: int
) -> tuple[FloatArray, dict[int, tuple[float, float]]]:
    """`table` without gaps, and the public bounds of each number's column.

    The library lays 2·(max_bins - 1) even cells between the bounds; where a number may be missing,
    the first of them is for that.

    Returns:
        Rows of shape (n, d), and bounds by column.
    """
    width = 1 / (2 * (max_bins - 1) - 1)
    rows, bounds = problem.table.copy(), {}
    for place, feature in enumerate(problem.features):
        if isinstance(feature, Numeric):
            apart = feature.name in problem.may_be_missing
            rows[np.isnan(rows[:, place]), place] = -width / 2 if apart else MIDDLE
            bounds[place] = (-width if apart else 0.0, 1.0)
    return rows, bounds
