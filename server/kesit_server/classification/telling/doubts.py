"""What a model's owner should doubt, told from released values: it costs no privacy."""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import Numeric
from kesit_server.classification.training.labels import Labels
from kesit_server.wording import Wording

LEAKS_BELOW = 0.05
"""Part of the errors of guessing the commonest class that a single feature may leave."""

CROWDED = 0.98
"""Part of the customers in one cell of a number from which its bounds are doubted."""

CLEAR = 0.05
"""Most noise on a cell, as a part of the customers, at which that can be told."""

HALF_NOISE = 1 / np.sqrt(2 * np.pi)
"""E[max(N(0, 1), 0)]: what noise alone adds to an empty count, in its standard deviation."""


def doubts(labels: Labels) -> tuple[Wording, ...]:
    """Warnings: classes that nobody has, features that give the target away, bounds that hide."""
    return (*_absent(labels), *_leaks(labels), *_crowded(labels))


def _absent(labels: Labels) -> list[Wording]:
    """Classes of which fewer customers were counted than twice the noise."""
    precision = 1 / (labels.noise**2 * [len(count) for count in labels.counts])
    sigma = float(precision.sum() ** -0.5)
    return [
        Wording(
            f"No customer of the class {name!r} is told from the noise: the model cannot know it.",
            f"{name!r} sınıfından hiçbir müşteri gürültüden ayırt edilemiyor: model bu sınıfı"
            " tanıyamaz.",
        )
        for name, count in zip(labels.target.classes, labels.by_class, strict=True)
        if count < 2 * sigma
    ]


def _leaks(labels: Labels) -> list[Wording]:
    """Features whose cells hold nearly one class each: they may be the target in other words."""
    guessed = labels.customers - float(labels.by_class.max())
    found = []
    for place, (feature, counts, noise) in enumerate(
        zip(labels.space.features, labels.counts, labels.noise, strict=True)
    ):
        kept = np.sort(np.maximum(counts, 0), axis=1)[:, :-1]
        noisy = 0 if place in labels.drawn else kept.size
        errors = float(kept.sum() - HALF_NOISE * noise * noisy)
        spread = noise * np.sqrt(max(noisy, 1))
        # In many cells, noise hides the errors even of a feature that tells nothing: the smallest
        # of two counts is too low by 0.56 of their noise, and what is taken off above is 0.4.
        hidden = noise * noisy
        if hidden < (1 - LEAKS_BELOW) * guessed and errors + spread < LEAKS_BELOW * guessed:
            found.append(
                Wording(
                    f"{feature.name} alone tells {labels.target.feature.name} almost without"
                    " error. If it is known only after the fact, leave it out.",
                    f"{feature.name} tek başına {labels.target.feature.name} değerini neredeyse"
                    " hatasız veriyor. Ancak sonradan biliniyorsa modelden çıkarın.",
                )
            )
    return found


def _crowded(labels: Labels) -> list[Wording]:
    """Numbers whose customers lie in one cell, where the noise is small enough to see it."""
    found = []
    for place, (feature, sizes) in enumerate(zip(labels.space.features, labels.sizes, strict=True)):
        if not isinstance(feature, Numeric) or feature.may_be_constant or place in labels.drawn:
            continue
        cells, known = sizes[:-1], labels.customers - sizes[-1]  # the last cell: missing values
        noise = float(labels.noise[place]) * np.sqrt(len(labels.target.classes))
        if cells.max() > CROWDED * known and noise < CLEAR * known:
            found.append(
                Wording(
                    f"{feature.name}: nearly all customers lie in one of its {len(cells)} cells."
                    " Bounds that are nearer to what customers have would tell them apart.",
                    f"{feature.name}: müşterilerin neredeyse tümü {len(cells)} hücreden birinde."
                    " Müşterilerin değerlerine daha yakın sınırlar onları ayırt ederdi.",
                )
            )
    return found
