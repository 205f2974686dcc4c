"""What a person gets of a segmentation: cards, how the segments nest, what their densities say.

Post-processing of released values; it costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kesit_privacy.features import plain
from kesit_privacy.segment_file import SEGMENTS
from kesit_server.portrait.cards import Card, segment_cards
from kesit_server.portrait.density import DensityClusters, density_clusters
from kesit_server.portrait.hierarchy import Dendrogram, dendrogram
from kesit_server.portrait.telling import FORMAT
from kesit_server.segmentation.points import thinned
from kesit_server.segmentation.segmenter import Segmentation
from kesit_server.wording import labels

REHEARSALS = 10

NOTES = (
    "size: customers nearest to the segment's centre; size_95 holds the true number with 95 %, over"
    " the noise alone",
    "centre: a typical customer, not an average of all: customers far from it count as if they were"
    " nearer (clipping), money on a signed-log scale is averaged on that scale, and a missing"
    " number counts as the feature's overall mean",
    "stability: Jaccard similarity of the segment with its like when the study is gone through"
    " again with other noise",
    "assignment: what `kesit client segment` needs; centres in grid steps, 16,384 to a range",
    "fit: distances are in public ranges, 1 is one feature's whole range; customers farther than"
    " `reach` count as if they were at it",
)
"""How to read `as_dict`; part of every result."""


@dataclass(frozen=True)
class Portrait:
    """Everything told of a segmentation beside its centres."""

    segments: Segmentation
    cards: tuple[Card, ...]
    tree: Dendrogram
    density: DensityClusters

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        return SEGMENTS

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        choice, fit = self.segments.choice, self.segments.assessment
        return {
            "kesit_segments": FORMAT,
            "notes": list(NOTES),
            "labels": {
                name: words.as_dict()
                for name, words in labels(self.segments.space.features).items()
            },
            "choice_of_k": None if choice is None else choice.as_dict(),
            "fit": None if fit is None else fit.as_dict(),
            "segments": [card.as_dict() for card in self.cards],
            "assignment": {
                "purpose": self.segments.study.purpose,
                "legal_basis": self.segments.study.legal_basis,
                "features": [plain(feature) for feature in self.segments.space.features],
                "centres": self.segments.centres.astype(int).tolist(),
                "fill": list(self.segments.fill),
            },
            "dendrogram": self.tree.as_dict(),
            "density": self.density.as_dict(),
        }


def portray(segments: Segmentation, rng: np.random.Generator) -> Portrait:
    """Go through the study again and again with fresh noise, and tell what stays.

    Args:
        rng: for rehearsals and restarts; it touches released values only.
    """
    rehearsed = [segments.rehearsed(rng) for _ in range(REHEARSALS)]
    synopsis = thinned(segments.synopsis, rng)
    cards = segment_cards(
        segments.space,
        segments.centres,
        segments.sizes,
        segments.size_sigma,
        synopsis,
        rehearsed,
        min_size=segments.study.thresholds.min_segment_size,
        labels=labels(segments.space.features),
    )
    return Portrait(
        segments,
        cards,
        dendrogram(segments.centres, np.maximum(segments.sizes, 1)),
        density_clusters(synopsis.points, synopsis.weights),
    )
