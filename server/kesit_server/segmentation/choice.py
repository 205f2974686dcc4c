"""How many segments: k chosen on the private synopsis alone, which costs no privacy.

For each k of a range the synopsis is clustered, and so are redraws of it (`rehearsal`: the same
sums of it, with fresh noise of the same σ). The score of k is

    score(k) = (S + S_min) · √R · A

S     mean simplified silhouette by weight: (b - a)/b of a point at distance a from its centre and b
      from the next one (Rousseeuw 1987; on centres: Hruschka, de Castro and Campello 2004);
S_min the mean silhouette of the weakest segment, so that no segment may be an arbitrary cut; 0 if
      the smallest segment is dust (`DUST`): one cell of noise has the best of silhouettes;
R     variance ratio: the sum of squares between segments over that within, over k - 1 (Caliński and
      Harabasz 1974, without their factor n - k, which hardly changes with k among customers);
A     stability: mean adjusted Rand index of the labelings of the same points by the centres of the
      synopsis and of a redraw (after Ben-Hur, Elisseeff and Guyon 2002; here what varies is the
      noise, not the sample).

Only the heaviest points that hold `TRUSTED_WEIGHT` of the weight take part: the noise of empty
cells leaves many light points between the segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.features import FloatArray, IntArray
from kesit_server.segmentation.agreement import (
    adjusted_rand,
    contingency,
    nearest,
    squared_distances,
)
from kesit_server.segmentation.lloyd import cluster
from kesit_server.segmentation.points import Weighted, found_anew
from kesit_server.wording import Language, percent

MOST_DRAWS = 10
"""Redraws that are looked at; more of them cost time and change little."""

TRUSTED_WEIGHT = 0.9
DUST = 0.1
"""A segment under this share of the mean weight of segments is taken for noise."""

MOST_POINTS = 1000
"""Above this many points a synopsis is resampled by weight."""

POINTS_A_SEGMENT = 2
"""A k that leaves fewer points a segment than this has score 0: a point by itself has the best of
silhouettes. Measured on 14 codebooks of about 40 points: it took hits from 86 % to 100 %."""

RESTARTS = 20
REDRAW_RESTARTS = 2

CRITERION = (
    "score = (silhouette + silhouette of the weakest segment) × √(variance ratio) × stability, the"
    " largest; silhouette: simplified, by weight, on the private synopsis, and 0 for the weakest if"
    " the smallest segment holds under a tenth of the mean; variance ratio: sum of squares between"
    " segments over that within, over k - 1; stability: mean adjusted Rand index between the"
    " segments of the synopsis and of synopses redrawn with fresh noise; all over the heaviest"
    " points that hold 90 % of the weight"
)


@dataclass(frozen=True)
class Candidate:
    """One k on the curve.

    Attributes:
        silhouette, weakest: mean over all points, and of the weakest segment; 0 .. 1.
        variance_ratio: sum of squares between segments over that within, over k - 1.
        stability: adjusted Rand index, 1 is the same segments under any noise.
        *_sd: standard deviation over redraws.
    """

    k: int
    silhouette: float
    silhouette_sd: float
    weakest: float
    weakest_sd: float
    stability: float
    stability_sd: float
    variance_ratio: float
    score: float


@dataclass(frozen=True)
class Choice:
    """The chosen k, and why.

    Attributes:
        curve: one candidate a k, ascending.
        confidence: share of redraws whose own choice is the same k. A redraw holds the noise twice,
            so this is rather too low than too high.
        runner_up: the k with the next best score; None if there was one k alone.
    """

    k: int
    curve: tuple[Candidate, ...]
    confidence: float
    runner_up: int | None
    criterion: str = CRITERION

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        plain = asdict(self)
        plain["curve"] = [
            {name: round(value, 4) for name, value in row.items()} for row in plain["curve"]
        ]
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Choice:
        """The choice of `as_dict`.

        Raises:
            TypeError, ValueError: it is none.
        """
        choice: Choice = TypeAdapter(cls).validate_python(plain)
        if choice.k not in [row.k for row in choice.curve]:
            raise ValueError(f"the curve lacks the chosen k = {choice.k}")
        return choice

    @property
    def words(self) -> str:
        """The choice in one sentence."""
        return self.sentence("en")

    def sentence(self, language: Language) -> str:
        """The choice in one sentence."""
        share = percent(self.confidence, language, digits=0)
        if language == "tr":
            if self.runner_up is None:
                return f"k = {self.k}: çalışma başka bir sayı bırakmıyor."
            return (
                f"En iyi puan k = {self.k} için; gürültüsü yenilenen özetlerde aynı seçimin payı"
                f" {share}; ikinci sırada k = {self.runner_up}."
            )
        if self.runner_up is None:
            return f"k = {self.k}: the study leaves no other."
        return (
            f"k = {self.k} has the best score; {share} of synopses with redrawn noise choose the"
            f" same; next is k = {self.runner_up}."
        )


def choose(
    synopsis: Weighted,
    redraws: Sequence[Weighted],
    ks: Sequence[int],
    rng: np.random.Generator,
) -> Choice:
    """The best k of a range.

    Args:
        redraws: of the synopsis with other noise, 2 or more; the first `MOST_DRAWS` count.
        ks: distinct candidates, each 2 or more. If the synopsis has too few points for any of them
            (`POINTS_A_SEGMENT`), the smallest is chosen.
        rng: for restarts and resampling.

    Raises:
        ValueError: no k, or one below 2, or fewer than two redraws.
    """
    if not ks or min(ks) < 2 or len(redraws) < 2:
        raise ValueError("at least one k of 2 or more, and two redraws, are needed")
    ordered = sorted(set(ks))
    points, weights = _trusted(synopsis, rng)
    again = [_trusted(each, rng) for each in redraws[:MOST_DRAWS]]
    rows, own = [], np.zeros((len(again), len(ordered)))
    for place, k in enumerate(ordered):
        row, own[:, place] = _candidate(points, weights, again, k, rng)
        rows.append(row)
    best = max(rows, key=lambda row: row.score)
    others = [row for row in rows if row is not best]
    return Choice(
        best.k,
        tuple(rows),
        float((own.argmax(axis=1) == rows.index(best)).mean()),
        max(others, key=lambda row: row.score).k if others else None,
    )


def silhouettes(
    points: FloatArray, weights: FloatArray, centres: FloatArray
) -> tuple[float, float]:
    """Simplified silhouette by weight: of all points, and of the weakest segment that has any."""
    squares = squared_distances(points, centres)
    labels = squares.argmin(axis=1)
    first, second = np.sqrt(np.partition(squares, 1, axis=1)[:, :2].T)
    each = np.divide(second - first, second, out=np.zeros_like(first), where=second > 0)
    mass = np.bincount(labels, weights, len(centres))
    sums = np.bincount(labels, weights * each, len(centres))
    return float(sums.sum() / mass.sum()), float((sums[mass > 0] / mass[mass > 0]).min())


def judged(
    points: FloatArray, weights: FloatArray, centres: FloatArray
) -> tuple[float, float, float]:
    """S, S_min and R of the module's score."""
    overall, weakest = silhouettes(points, weights, centres)
    squares = squared_distances(points, centres)
    mass = np.bincount(squares.argmin(axis=1), weights, len(centres))
    if mass.min() < DUST * mass.mean():
        weakest = 0.0
    mean = np.average(points, axis=0, weights=weights)
    total = float(weights @ ((points - mean) ** 2).sum(axis=1))
    within = max(float(weights @ squares.min(axis=1)), 1e-9 * total)
    ratio = (total - within) / within / (len(centres) - 1) if total > 0 else 0.0
    return overall, weakest, max(ratio, 0.0)


def _candidate(
    points: FloatArray,
    weights: FloatArray,
    redraws: list[tuple[FloatArray, FloatArray]],
    k: int,
    rng: np.random.Generator,
) -> tuple[Candidate, FloatArray]:
    """The row of k, and the score that each redraw gives it."""
    draws = len(redraws)
    if not _enough(points, k):
        return Candidate(k, *(0.0,) * 8), np.zeros(draws)
    centres = cluster(points, weights, k, rng, RESTARTS)
    overall, weakest, ratio = judged(points, weights, centres)
    drawn, labels = np.zeros((draws, 3)), [nearest(points, centres)]
    for place, (again, mass) in enumerate(redraws):
        found = found_anew(again, mass, centres, rng, REDRAW_RESTARTS)
        drawn[place] = judged(again, mass, found) if _enough(again, k) else 0.0
        labels.append(nearest(points, found))
    alike = _alike(labels, weights, k)
    stability = alike[0, 1:]
    among = (alike[1:, 1:].sum(axis=1) - 1) / (draws - 1)  # each redraw beside the others
    sd = drawn.std(axis=0)
    row = Candidate(
        k,
        overall,
        float(sd[0]),
        weakest,
        float(sd[1]),
        float(stability.mean()),
        float(stability.std()),
        ratio,
        float((overall + weakest) * np.sqrt(ratio) * stability.mean()),
    )
    own: FloatArray = (drawn[:, 0] + drawn[:, 1]) * np.sqrt(drawn[:, 2]) * among
    return row, own


def _enough(points: FloatArray, k: int) -> bool:
    return len(np.unique(points, axis=0)) >= POINTS_A_SEGMENT * k


def _alike(labels: list[IntArray], weights: FloatArray, k: int) -> FloatArray:
    """Adjusted Rand index of every pair of labelings."""
    table = np.eye(len(labels))
    for first in range(len(labels)):
        for second in range(first):
            pair = contingency(labels[first], labels[second], weights, (k, k))
            table[first, second] = table[second, first] = adjusted_rand(pair)
    return table


def _trusted(synopsis: Weighted, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The heaviest points that hold `TRUSTED_WEIGHT`, at most `MOST_POINTS` of them.

    Points as heavy as the lightest of these stay, too: where all weigh the same, all stay.
    """
    points, weights = synopsis.points, synopsis.weights
    ranked = -np.sort(-weights)
    reached = int(np.searchsorted(np.cumsum(ranked), TRUSTED_WEIGHT * weights.sum()))
    kept = weights >= ranked[min(reached, len(ranked) - 1)] * (1 - 1e-9)
    points, weights = points[kept], weights[kept]
    if len(points) > MOST_POINTS:
        copies = rng.multinomial(MOST_POINTS, weights / weights.sum())
        points, weights = points[copies > 0], copies[copies > 0] * (weights.sum() / MOST_POINTS)
    return points, weights
