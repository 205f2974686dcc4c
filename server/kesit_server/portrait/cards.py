"""Segment cards: what a person needs to know about each segment, with how sure it is.

Post-processing of released centres and sizes and of the private synopsis; it costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import Categorical, FloatArray
from kesit_server import wording
from kesit_server.portrait import naming
from kesit_server.portrait.traits import CERTAINTY, Trait, segment_traits
from kesit_server.segmentation.agreement import contingency, jaccard, nearest
from kesit_server.segmentation.points import Weighted
from kesit_server.wording import Language, Vocabulary, Wording

MOST_TOLD = 8
"""Differences that the text of a card tells; a file holds all."""

MOST_VALUES = 12
"""Features of a centre that the text of a card shows."""

KEPT_TRAITS, KEPT_EFFECT = 8, 0.1
"""Traits that a file holds of each segment: the first ones, and all with an effect of that size."""

STABILITY = (
    (0.85, Wording("very stable", "çok kararlı")),
    (0.75, Wording("stable", "kararlı")),
    (0.60, Wording("moderately stable", "kısmen kararlı")),
    (0.0, Wording("unstable", "kararsız")),
)
"""Words for a mean Jaccard similarity from these thresholds on: those of Hennig (2007, CSDA 52) and
the documentation of his `fpc::clusterboot`: 0.85 highly stable; 0.75 valid and stable; 0.6 a
pattern whose members are doubtful; below, not to be trusted."""


@dataclass(frozen=True)
class Card:
    """One segment.

    Attributes:
        segment: its number, from 1.
        size, share: noisy number of customers (at least 0) and their share of all.
        size_95, share_95: intervals that hold the true number with 95 %, over the noise alone.
        centre: each feature of a typical customer, in its own unit; for a categorical feature its
            most frequent levels and their shares.
        traits: what sets it apart, largest effect first (see `traits.Trait`).
        jaccard, jaccard_worst: mean and least similarity of the segment to its like when the study
            is gone through again with fresh noise (`rehearsal`), 1 is the same customers.
        spread: root mean squared distance of its customers to the centre, in public ranges; None
            if unknown.
        silhouette: mean simplified silhouette of its customers, if known.
        too_small: fewer customers than a released segment must hold.
        uncertain: not told from noise.
    """

    segment: int
    name: Wording
    size: float
    size_95: tuple[float, float]
    share: float
    share_95: tuple[float, float]
    centre: Mapping[str, float | Mapping[str, float]]
    traits: tuple[Trait, ...]
    jaccard: float
    jaccard_worst: float
    spread: float | None
    silhouette: float | None
    too_small: bool
    uncertain: bool
    vocabulary: Vocabulary

    @property
    def stability(self) -> Wording:
        """How stable the segment is under the noise, in words."""
        return next(word for least, word in STABILITY if self.jaccard >= least)

    @property
    def told(self) -> list[Trait]:
        """The traits that are clear, one a feature."""
        return [] if self.uncertain else naming.distinguishing(self.traits)

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        sentences = [naming.sentence(trait, self.vocabulary) for trait in self.told]
        return {
            "segment": self.segment,
            "name": self.name.as_dict(),
            "size": round(self.size),
            "size_95": [round(end) for end in self.size_95],
            "share": round(self.share, 4),
            "share_95": [round(end, 4) for end in self.share_95],
            "centre": self.centre,
            "sets_apart": {
                "en": [words.en for words in sentences],
                "tr": [words.tr for words in sentences],
            },
            "traits": [
                trait.as_dict()
                for place, trait in enumerate(self.traits)
                if place < KEPT_TRAITS or abs(trait.effect) >= KEPT_EFFECT
            ],
            "stability": {
                "jaccard": self.jaccard,
                "jaccard_worst": self.jaccard_worst,
                **self.stability.as_dict(),
            },
            "spread": None if self.spread is None else round(self.spread, 5),
            "silhouette": None if self.silhouette is None else round(self.silhouette, 4),
            "too_small": self.too_small,
            "uncertain": self.uncertain,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], vocabulary: Vocabulary) -> Card:
        """The card of `as_dict`: sizes and shares rounded, small traits left out.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        stable = plain["stability"]
        fields = {
            **{name: plain[name] for name in _AS_THEY_ARE},
            "jaccard": stable["jaccard"],
            "jaccard_worst": stable["jaccard_worst"],
            "vocabulary": vocabulary,
        }
        card: Card = TypeAdapter(cls).validate_python(fields)
        for value, (low, high) in ((card.size, card.size_95), (card.share, card.share_95)):
            if not low <= value <= high:
                raise ValueError(f"{value:g} is not in its interval of {low:g} to {high:g}")
        return card

    def text(self, language: Language) -> str:
        """The card as a few lines of text."""
        turkish = language == "tr"
        ends = [wording.count(end, language) for end in self.size_95]
        shares = [wording.percent(end, language) for end in self.share_95]
        size, share = (
            wording.count(self.size, language),
            wording.percent(self.share, language),
        )
        told = self.told
        apart = [naming.sentence(trait, self.vocabulary).of(language) for trait in told[:MOST_TOLD]]
        if len(told) > MOST_TOLD:
            left = len(told) - MOST_TOLD
            apart.append(f"{left} özellik daha" if turkish else f"{left} features more")
        if turkish:
            lines = [
                f"{self.segment}. {self.name.tr}",
                f"  büyüklük: {size} müşteri (%95: {ends[0]} – {ends[1]}),"
                f" payı {share} ({shares[0]} – {shares[1]})",
                f"  kararlılık: {self.stability.tr} (ortalama Jaccard"
                f" {wording.number(self.jaccard, 'tr')},"
                f" en düşük {wording.number(self.jaccard_worst, 'tr')})",
            ]
        else:
            lines = [
                f"{self.segment}. {self.name.en}",
                f"  size: {size} customers (95%: {ends[0]} – {ends[1]}),"
                f" share {share} ({shares[0]} – {shares[1]})",
                f"  stability: {self.stability.en} (Jaccard mean"
                f" {wording.number(self.jaccard, 'en')},"
                f" worst {wording.number(self.jaccard_worst, 'en')})",
            ]
        if self.too_small:
            lines.append(
                "  yayımlanamayacak kadar küçük" if turkish else "  too small to be released"
            )
        return "\n".join([*lines, *(f"  - {words}" for words in apart), self._centre(language)])

    def _centre(self, language: Language) -> str:
        """The centre's values, the most telling features first, on one line."""
        telling = [trait.feature for trait in self.traits if trait.feature in self.centre]
        order = list(dict.fromkeys([*telling, *self.centre]))
        values = [
            f"{self.vocabulary.feature(name, language)} {_value(self.centre[name], language)}"
            for name in order[:MOST_VALUES]
        ]
        left = len(order) - len(values)
        if left:
            values.append(f"{left} özellik daha" if language == "tr" else f"{left} features more")
        return f"  {'merkez' if language == 'tr' else 'centre'}: {'; '.join(values)}"


_AS_THEY_ARE = (
    *("segment", "name", "size", "size_95", "share", "share_95", "centre", "traits"),
    *("spread", "silhouette", "too_small", "uncertain"),
)
"""Fields that `as_dict` holds under their own name."""


def segment_cards(
    space: Embedding,
    centres: FloatArray,
    sizes: FloatArray,
    size_sigma: float,
    synopsis: Weighted,
    rehearsed: Sequence[FloatArray],
    *,
    min_size: int = 1,
    spread: Sequence[float] | None = None,
    silhouette: Sequence[float] | None = None,
    labels: Mapping[str, Wording] | None = None,
) -> tuple[Card, ...]:
    """The card of each segment, in the order of `centres`.

    Args:
        centres: (k, dimensions) in grid steps.
        sizes: (k,) noisy numbers of customers, independent noise.
        size_sigma: standard deviation of that noise; 0 without noise.
        synopsis: what stability and differences are judged on.
        rehearsed: centres that other noise would have given, 1 or more times (k, dimensions).
        min_size: the study's threshold of what a released segment must hold.
        spread, silhouette: (k,) of an evaluation, if there was one.
        labels: what features are called, by name.
    """
    traits = segment_traits(space, centres, sizes, synopsis, rehearsed)
    similar = stability(synopsis, centres, rehearsed)
    vocabulary = Vocabulary.of(_words(space), labels)
    told = [bool(size > CERTAINTY * size_sigma) for size in sizes]
    shares, share_sigma = share_of_all(sizes, size_sigma)
    named = naming.names(traits, told, vocabulary)
    return tuple(
        Card(
            segment=place + 1,
            name=named[place],
            size=max(float(sizes[place]), 0.0),
            size_95=_interval(float(sizes[place]), size_sigma, math.inf),
            share=float(np.clip(shares[place], 0, 1)),
            share_95=_interval(float(shares[place]), float(share_sigma[place]), 1.0),
            centre=own_units(space, centres[place]),
            traits=traits[place],
            jaccard=round(float(similar[:, place].mean()), 4),
            jaccard_worst=round(float(similar[:, place].min()), 4),
            spread=None if spread is None else float(spread[place]),
            silhouette=None if silhouette is None else float(silhouette[place]),
            too_small=bool(sizes[place] < min_size),
            uncertain=not told[place],
            vocabulary=vocabulary,
        )
        for place in range(len(centres))
    )


def stability(
    synopsis: Weighted, centres: FloatArray, rehearsed: Sequence[FloatArray]
) -> FloatArray:
    """Jaccard similarity of each segment with its like in each rehearsal, (rehearsals, k).

    Both labelings are of the same points, those of the synopsis, and count by weight.
    """
    k = len(centres)
    labels = nearest(synopsis.points, centres)
    tables = [
        contingency(labels, nearest(synopsis.points, other), synopsis.weights, (k, k))
        for other in rehearsed
    ]
    return np.array([jaccard(table)[0] for table in tables])


def share_of_all(sizes: FloatArray, size_sigma: float) -> tuple[FloatArray, FloatArray]:
    """Each segment's share of all customers and its standard deviation, by the delta method.

    p = n_s/N with N = Σ n; with independent noise of one σ on every n,
    Var p ≈ (σ/N)²·((1 - p)² + (k - 1)·p²). Without customers above 0 nothing is known: p = 1/k,
    σ = ∞.
    """
    k, total = len(sizes), float(sizes.sum())
    if total <= 0:
        return np.full(k, 1 / k), np.full(k, math.inf)
    shares = sizes / total
    scale = np.sqrt((1 - shares) ** 2 + (k - 1) * shares**2)
    return shares, size_sigma / total * scale


def own_units(space: Embedding, centre: FloatArray) -> dict[str, float | Mapping[str, float]]:
    """A centre feature by feature: a number in its own unit, or levels and shares (1 % or more)."""
    values: dict[str, float | Mapping[str, float]] = {}
    offsets = space.offsets
    for feature, start, stop in zip(space.features, offsets, offsets[1:], strict=False):
        if isinstance(feature, Categorical):
            levels = [*feature.levels, "(unknown)", "(missing)"]
            shares = np.clip(centre[start:stop] / ONE_HOT, 0, 1)
            ranked = sorted(zip(levels, shares, strict=True), key=lambda pair: -pair[1])
            values[feature.name] = {
                level: round(float(share), 3) for level, share in ranked if share >= 0.01
            }
        else:
            values[feature.name] = float(f"{feature.decode(float(centre[start])):.5g}")
    return values


def _value(value: float | Mapping[str, float], language: Language) -> str:
    """A centre's number, or its most frequent level and that level's share."""
    if not isinstance(value, Mapping):
        return wording.number(value, language)
    level = max(value, key=lambda name: value[name], default=None)
    return "-" if level is None else f"{level} {wording.percent(value[level], language, 0)}"


def _words(space: Embedding) -> list[str]:
    """Every feature's name and level."""
    levels = [
        level
        for feature in space.features
        if isinstance(feature, Categorical)
        for level in feature.levels
    ]
    return [*(feature.name for feature in space.features), *levels]


def _interval(value: float, sigma: float, most: float) -> tuple[float, float]:
    low, high = value - CERTAINTY * sigma, value + CERTAINTY * sigma
    return max(low, 0.0), max(min(high, most), 0.0)
