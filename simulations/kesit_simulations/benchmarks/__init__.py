"""`kesit bench`: what Kesit costs and how good it is, beside something familiar in the same run.

Machines are shared and noisy: comparisons of time alternate the two sides and report medians, the
spread and the ratio. Nothing here is a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kesit_simulations.benchmarks import (
    choice,
    classifiers,
    consent,
    deployment,
    engines,
    federation,
    quality,
    scoring,
    step,
    sweep,
)
from kesit_simulations.benchmarks.report import Report, Tell


@dataclass(frozen=True)
class Part:
    """One benchmark. `run` is told whether to be quick, and tells what it does."""

    title: str
    run: Callable[[bool, Tell], Report]


PARTS: dict[str, Part] = {
    "step": Part("a client's k-means step beside scikit-learn's", step.run),
    "federation": Part("whole studies in one process, and what the grid adds", federation.run),
    "ray": Part("the in-process grid beside Flower's own engine", engines.run),
    "quality": Part("inertia of Kesit and the baselines on five data sets", quality.run),
    "choice": Part("how often the number of segments is found", choice.run),
    "deployment": Part("a study over real processes beside Flower's own", deployment.run),
    "sweep": Part("how long 1,000 small studies take", sweep.run),
    "classifiers": Part("AUC of Kesit and the baselines on three data sets", classifiers.run),
    "scoring": Part("a million customers scored by a released model", scoring.run),
    "consent": Part("a million consents: import, and the filter before a sum", consent.run),
}
"""In the order in which they run."""

__all__ = ["PARTS", "Part", "Report", "Tell"]
