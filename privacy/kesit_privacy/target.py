"""What a classifier learns: a row's class, and whether training or evaluation counts the row.

Both are functions of one row. The part comes from a keyed hash of the customer's id, which the
client puts in a column of its own beside the features' codes (see `columns`), so that a customer
falls on the same side at every client and in every sum of a study.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kesit_privacy import canonical
from kesit_privacy.features import Categorical, CodeArray, IntArray
from kesit_privacy.parameters import whole_tuple
from kesit_privacy.sides import BookSide
from kesit_privacy.study import Study

PARTS = 1000
"""Parts into which ids are hashed; a share of customers is a range of parts."""

MAX_CLASSES = 64


@dataclass(frozen=True)
class Target:
    """The study's target: where its codes stand, and which class each code is.

    Attributes:
        feature: its dictionary entry; column, part_column: places in the code matrix.
        classes: names of the classes; of two, the second is the one whose chance is told.
    """

    feature: Categorical
    column: int
    part_column: int
    classes: tuple[str, ...]

    @classmethod
    def of(cls, study: Study) -> Target:
        """The target of a classifier's study (`classifier_recipes.complete` has checked it)."""
        column = next(i for i, f in enumerate(study.features) if f.name == study.target)
        feature = study.features[column]
        assert isinstance(feature, Categorical)
        positive, classes = study.classifying.positive, feature.levels
        if positive is not None:
            classes = (*(level for level in classes if level != positive), positive)
        return cls(feature, column, len(study.features), classes)

    @property
    def logits(self) -> int:
        """Numbers that a model gives for a row: one for two classes, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @cached_property
    def _class_of_code(self) -> IntArray:
        found = [self.classes.index(level) for level in self.feature.levels]
        return np.array([*found, -1, -1], dtype=np.int64)  # unknown, missing

    def labels(self, codes: CodeArray) -> IntArray:
        """Class of each row, shape (n,); -1 where the label is unknown or missing."""
        found: IntArray = self._class_of_code[codes[:, self.column]]
        return found


@dataclass(frozen=True)
class Side:
    """The customers whom a sum counts: those of the parts low .. high-1, or all others."""

    low: int
    high: int
    inside: bool

    @classmethod
    def read(cls, value: Any, *, inside: bool) -> Side:
        """From a query's parameter `held`.

        Raises:
            ProtocolError: no pair of parts in order.
        """
        low, high = whole_tuple(value, 2, 0, PARTS, "held")
        return cls(low, high, inside)

    def params(self) -> list[int]:
        """The pair, as canonical JSON."""
        return [self.low, self.high]

    def counted(self, codes: CodeArray, target: Target) -> tuple[CodeArray, IntArray]:
        """The rows of this side that have a known label, and their classes."""
        labels = target.labels(codes)
        keep = (labels >= 0) & self.holds(codes[:, target.part_column])
        return codes[keep], labels[keep]

    def holds(self, parts: CodeArray) -> NDArray[np.bool_]:
        """Whether each of these parts is on this side."""
        held: NDArray[np.bool_] = (parts >= self.low) & (parts < self.high)
        return held if self.inside else ~held


@dataclass(frozen=True)
class Arms:
    """The arms of an A/B evaluation: levels of a categorical feature, the first is the control.

    Attributes:
        feature: its dictionary entry; column: its place in the code matrix.
    """

    feature: Categorical
    column: int

    @classmethod
    def of(cls, study: Study) -> Arms | None:
        """The arms that a classifier's study names (`check_target` has checked them), or None."""
        for column, feature in enumerate(study.features):
            if feature.name == study.classifying.arms:
                assert isinstance(feature, Categorical)
                return cls(feature, column)
        return None

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the arms."""
        return self.feature.levels

    def known(self, codes: CodeArray) -> NDArray[np.bool_]:
        """Whether each row's arm is one of the levels, shape (n,)."""
        found: NDArray[np.bool_] = codes[:, self.column] < self.feature.unknown
        return found

    def places(self, codes: CodeArray) -> IntArray:
        """The arm of each row, shape (n,); the rows are those that are `known`."""
        return codes[:, self.column].astype(np.int64)


def columns(study: Study) -> int:
    """Columns of a study's code matrix: its features, and a classifier's part."""
    return len(study.features) + (study.classification is not None)


def held_out(study: Study) -> tuple[int, int]:
    """The parts low .. high-1 that the evaluation counts and training does not, without folds.

    Of a study that trains nothing: all of them.
    """
    if not study.classifying.trains:
        return 0, PARTS
    return 0, round(study.classifying.holdout * PARTS)


def held_ranges(study: Study) -> tuple[tuple[int, int], ...]:
    """For each training of the study, the parts low .. high-1 that it leaves to its evaluation.

    Folds divide all parts among them; without folds there is one range, that of `held_out`.
    """
    folds = study.classifying.folds
    if folds is None:
        return (held_out(study),)
    ends = [fold * PARTS // folds for fold in range(folds + 1)]
    return tuple(itertools.pairwise(ends))


def book_side(study: Study, side: Side | None) -> BookSide:
    """On which side of the books a sum over the customers of `side` stands (None: everyone).

    Decided by this copy of the study, part by part: what is not wholly on one side of its own
    split is a sum over all. With folds every sum is one: whoever is held out is in the trainings of
    the other folds.
    """
    if side is None or study.classification is None or study.classification.folds is not None:
        return BookSide.ALL
    counted, held = (s.holds(_EVERY_PART) for s in (side, Side(*held_out(study), inside=True)))
    if not (counted & held).any():
        return BookSide.TRAIN
    return BookSide.ALL if (counted & ~held).any() else BookSide.HELD


_EVERY_PART = np.arange(PARTS, dtype=np.int16)


def parts(study: Study, ids: Iterable[str]) -> CodeArray:
    """Part of each customer, shape (n,): a keyed BLAKE2b of the id, as consent records write it.

    The key is public, in the study: it makes the split the same at every client, and no secret.
    """
    key = canonical.digest(canonical.encode([study.name, study.classifying.split]))
    found = [
        int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8, key=key).digest(), "big") % PARTS
        for i in ids
    ]
    return np.array(found, dtype=np.int16)
