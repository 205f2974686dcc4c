"""What a federated private classifier is compared with, behind one interface.

`BASELINES[name].fit(problem)` gives probabilities for the held-out rows, which `auc` and
`average_precision` score beside `problem.held_labels`. They differ in whom they trust: print
`trust` beside every table. docs/explanation/classifier-baselines.md compares them.
"""

from __future__ import annotations

from kesit_simulations.classifier_baselines.alone import alone_clear, alone_private
from kesit_simulations.classifier_baselines.ebm import dp_ebm, dp_ebm_tuned
from kesit_simulations.classifier_baselines.ibm import diffprivlib_logistic, diffprivlib_tuned
from kesit_simulations.classifier_baselines.metrics import auc, average_precision
from kesit_simulations.classifier_baselines.problem import ClassifierBaseline, ClassifierProblem
from kesit_simulations.classifier_baselines.reference import boosting, logistic
from kesit_simulations.classifier_baselines.sgd import dp_sgd

__all__ = ["BASELINES", "ClassifierBaseline", "ClassifierProblem", "auc", "average_precision"]

_OPEN = "One curator holds every row, and the result has no privacy."
_CURATOR = "One curator holds every row and is trusted with it; the result is private."
_FREE = "The best of eight settings is chosen without paying for the choice."
_OVER = "Spends more than its nominal ε by its own proof."
_ALONE = "Nobody is trusted, and nothing is shared: each client sees its own rows only."

_ALL = (
    ClassifierBaseline(
        "logistic", "scikit-learn LogisticRegression, all rows in one place", _OPEN, False, logistic
    ),
    ClassifierBaseline(
        "boosting",
        "scikit-learn HistGradientBoosting, all rows in one place",
        _OPEN,
        False,
        boosting,
    ),
    ClassifierBaseline(
        "diffprivlib",
        "diffprivlib LogisticRegression, default (central)",
        f"{_CURATOR} {_OVER}",
        True,
        diffprivlib_logistic,
        "simulation",
    ),
    ClassifierBaseline(
        "diffprivlib-tuned",
        "diffprivlib LogisticRegression, tuned (central)",
        f"{_CURATOR} {_FREE} {_OVER}",
        True,
        diffprivlib_tuned,
        "simulation",
    ),
    ClassifierBaseline("dp-ebm", "DP-EBM, default (central)", _CURATOR, True, dp_ebm, "simulation"),
    ClassifierBaseline(
        "dp-ebm-tuned",
        "DP-EBM, tuned (central)",
        f"{_CURATOR} {_FREE}",
        True,
        dp_ebm_tuned,
        "simulation",
    ),
    ClassifierBaseline(
        "dp-sgd",
        "Opacus DP-SGD logistic regression, tuned (central)",
        f"{_CURATOR} {_FREE}",
        True,
        dp_sgd,
        "neural",
    ),
    ClassifierBaseline(
        "alone",
        "Each client alone, diffprivlib tuned at the same ε",
        f"Nobody is trusted: each client releases its own model, privately. {_FREE} {_OVER}",
        True,
        alone_private,
        "simulation",
    ),
    ClassifierBaseline(
        "alone-clear", "Each client alone, LogisticRegression", _ALONE, False, alone_clear
    ),
)

BASELINES: dict[str, ClassifierBaseline] = {baseline.name: baseline for baseline in _ALL}
"""Every baseline by name, in the order of tables and legends."""
