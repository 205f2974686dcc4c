"""The space in which k-means measures: codes of features as integer coordinates.

A numeric feature is one coordinate in 0 .. GRID. A categorical feature is one coordinate for each
of its codes (unknown and missing among them), one of them at GRID/√2 and the others at 0, so that
two different levels lie a full range (GRID) apart. A missing number stands at its feature's *fill*
position, a public parameter of the query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kesit_privacy.features import GRID, Categorical, CodeArray, Feature, FloatArray, Numeric
from kesit_privacy.study import Study

ONE_HOT = round(GRID / math.sqrt(2))
"""Height of a categorical coordinate that is on."""


@dataclass(frozen=True)
class Embedding:
    """Which columns of the code matrix become which coordinates.

    `columns[i]` is the place of `features[i]` in the study's features (and in the code matrix).
    """

    features: tuple[Feature, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, study: Study) -> Embedding:
        """The embedding of the features of which the study makes segments or a classifier.

        If the study names none: all of them but the protected attributes, the target and the arms
        of an A/B evaluation.
        """
        place = {feature.name: index for index, feature in enumerate(study.features)}
        arms = study.classification.arms if study.classification else None
        apart = {*study.protected, study.target, arms}
        chosen = study.chosen or tuple(name for name in place if name not in apart)
        columns = tuple(place[name] for name in chosen)
        return cls(tuple(study.features[column] for column in columns), columns)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First coordinate of each feature, and the number of coordinates at the end."""
        widths = [f.cells if isinstance(f, Categorical) else 1 for f in self.features]
        return tuple(int(offset) for offset in np.cumsum([0, *widths]))

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return self.offsets[-1]

    @cached_property
    def ceiling(self) -> FloatArray:
        """Largest value of each coordinate, shape (dimensions,); the smallest is 0."""
        tops = [
            [GRID] if isinstance(feature, Numeric) else [ONE_HOT] * feature.cells
            for feature in self.features
        ]
        return np.array([top for part in tops for top in part], dtype=np.float64)

    @cached_property
    def diameter_sq(self) -> int:
        """Largest squared distance of a row to a point of the box (ceiling)."""
        return int((self.ceiling**2).sum())

    @cached_property
    def _numeric(self) -> tuple[list[int], list[int], list[int]]:
        """Feature indices, matrix columns and coordinates of the numeric features."""
        index = [i for i, f in enumerate(self.features) if isinstance(f, Numeric)]
        return index, [self.columns[i] for i in index], [self.offsets[i] for i in index]

    def expand(self, codes: CodeArray, fill: tuple[int, ...]) -> FloatArray:
        """Coordinates of the rows, shape (n, dimensions): whole numbers held in float64.

        Args:
            codes: (n, features of the study) codes.
            fill: for each feature of the embedding, where a missing number stands (0 .. GRID).
        """
        index, columns, coordinates = self._numeric
        numbers = codes[:, columns].astype(np.float64)
        np.copyto(numbers, np.array([fill[i] for i in index], dtype=np.float64), where=numbers < 0)
        if self.dimensions == len(index):
            return numbers
        rows = np.zeros((len(codes), self.dimensions))
        rows[:, coordinates] = numbers
        every = np.arange(len(codes))
        for feature, column, offset in zip(self.features, self.columns, self.offsets, strict=False):
            if isinstance(feature, Categorical):
                rows[every, offset + codes[:, column].astype(np.int64)] = ONE_HOT
        return rows
