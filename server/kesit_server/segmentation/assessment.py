"""How well the released centres fit: the evaluation sum, read with its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import Evaluation
from kesit_privacy.queries import evaluation as parts
from kesit_server.segmentation.lloyd import radius_within, round_centres, whole_centres
from kesit_server.segmentation.synopsis import Synopsis
from kesit_server.sums import NoisySum

BINS = 16
REACH_QUANTILE = 0.95
QUANTILES = (0.5, 0.75, 0.9)
DRAWS = 1000


@dataclass(frozen=True)
class Figure:
    """A figure, and the interval that holds the true one with 95 %, over the noise alone."""

    value: float
    interval_95: tuple[float, float]

    def as_dict(self) -> dict[str, object]:
        """Plain values, four digits each."""
        low, high = (float(f"{end:.4g}") for end in self.interval_95)
        return {"value": float(f"{self.value:.4g}"), "interval_95": [low, high]}


@dataclass(frozen=True)
class Assessment:
    """The opened evaluation sum. Distances are in public ranges: 1 is one feature's whole range.

    Attributes:
        sizes: (k,) noisy numbers of customers; `size_sigma` is their noise's standard deviation.
        reach: customers farther from their centre than this count as if they were at it.
        figures: `customers`; `mean_squared_distance` (inertia over customers) and `silhouette`
            (simplified, 0 .. 1); `distance_50`, `_75`, `_90`: quantiles of the distance to the
            nearest centre, as the upper end of the sixteenth of `reach` that holds it; `reach` if
            it lies beyond.
    """

    sizes: FloatArray
    size_sigma: float
    reach: float
    figures: dict[str, Figure]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        figures = {name: figure.as_dict() for name, figure in self.figures.items()}
        return {"reach": float(f"{self.reach:.4g}"), **figures}


def evaluation_query(space: Embedding, centres: FloatArray, synopsis: Synopsis) -> Evaluation:
    """The evaluation around `centres`, with a reach that holds most of the synopsis."""
    rounded = round_centres(centres, space)
    reach = radius_within(synopsis, rounded, REACH_QUANTILE)
    return Evaluation(space, whole_centres(rounded), synopsis.fill, reach, BINS, SCALE_BITS)


def assess(query: Evaluation, opened: NoisySum, *, noisy: bool = True) -> Assessment:
    """Read an opened evaluation sum.

    Intervals come from 1,000 draws of the same noise around the released values.
    """
    sigma = opened.sigma if noisy else 0.0
    unit = 2.0**query.scale_bits
    rng = np.random.default_rng(0)  # of intervals only: the same sum reads the same
    drawn = opened.values + rng.normal(0, 1, (DRAWS, query.length)) * sigma
    values = _figures(query, opened.values[None])
    spread = _figures(query, drawn)
    cell = query.reach / GRID / query.bins
    figures = {}
    for name, value in values.items():
        low, high = (float(end) for end in np.quantile(spread[name], (0.025, 0.975)))
        within = cell if name.startswith("distance_") else 0.0  # anywhere in the cell
        figures[name] = Figure(float(value[0]), (low - within, high))
    to_size = unit / query.amplitude(parts.SIZE)
    sizes = opened.values[: len(query.centres)] * to_size
    return Assessment(sizes, sigma * to_size, query.reach / GRID, figures)


def _figures(query: Evaluation, values: FloatArray) -> dict[str, FloatArray]:
    """Each figure for each row of `values`, shape (rows, query.length)."""
    k, unit, reach = len(query.centres), 2.0**query.scale_bits, query.reach / GRID
    customers = np.maximum(values[:, :k].sum(axis=1) * unit / query.amplitude(parts.SIZE), 1)
    inertia = np.maximum(values[:, k] * unit / query.amplitude(parts.INERTIA), 0)
    silhouette = values[:, k + 1] * unit / query.amplitude(parts.SILHOUETTE)
    cumulative = np.cumsum(values[:, k + 2 :], axis=1)
    cumulative = np.maximum.accumulate(cumulative, axis=1)  # noise may step down, masses may not
    edges = np.linspace(0, reach, query.bins + 1)[1:]
    figures = {
        "customers": customers,
        "mean_squared_distance": np.minimum(inertia / customers, 1) * reach**2,
        "silhouette": np.clip(silhouette / customers, 0, 1),
    }
    for quantile in QUANTILES:
        wanted = quantile * cumulative[:, -1:]
        place = (cumulative[:, :-1] < wanted).sum(axis=1)
        figures[f"distance_{quantile:.0%}"[:-1]] = np.append(edges, reach)[place]
    return figures
