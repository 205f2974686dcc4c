"""A segments file: released centres read back, with all that a customer's segment needs.

Anyone may have written the file, so every number is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, Feature, FloatArray, IntArray, Name, Sentence
from kesit_privacy.model_file import MODEL, built, file_bytes
from kesit_privacy.study import LegalBasis

SEGMENTS = "segments.json"
"""Name of the file in a result folder."""

CHUNK = 1 << 12
"""Customers at a time: results do not depend on it."""


@dataclass(frozen=True)
class SegmentModel:
    """Segments for customers who are coded by `features`.

    Attributes:
        purpose, legal_basis: of the study, for which alone it may be used.
        names: of the segments, in English and in Turkish, in their order.
        centres: (k, dimensions) whole grid steps.
        fill: for each feature, where a missing number stands (0 .. GRID).
        releasable: whether the run was a real one, with noise and masks; so the file says.
    """

    purpose: str
    legal_basis: str
    features: tuple[Feature, ...]
    names: tuple[Mapping[str, str], ...]
    centres: FloatArray
    fill: tuple[int, ...]
    releasable: bool = False

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SegmentModel:
        """From a parsed segments.json.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        given = plain["assignment"]
        features = TypeAdapter(tuple[Feature, ...]).validate_json(json.dumps(given["features"]))
        if len({feature.name for feature in features}) < len(features):
            raise ValueError("a feature stands twice")
        space = Embedding(features, tuple(range(len(features))))
        whole = TypeAdapter(list[list[int]]).validate_python(given["centres"], strict=True)
        centres = np.array(whole, dtype=np.float64)
        if not whole or centres.shape != (len(whole), space.dimensions):
            raise ValueError("the centres are not those of the features")
        if (centres < 0).any() or (centres > space.ceiling).any():
            raise ValueError("a centre lies outside the features' bounds")
        fill = TypeAdapter(tuple[int, ...]).validate_python(given["fill"])
        if len(fill) != len(features) or not all(0 <= step <= GRID for step in fill):
            raise ValueError("the places of missing numbers are not those of the features")
        told = TypeAdapter(tuple[dict[str, Sentence], ...]).validate_python(
            [row["name"] for row in plain["segments"]]
        )
        if len(told) != len(whole) or any(not {"en", "tr"} <= set(name) for name in told):
            raise ValueError("the names are not those of the segments")
        return cls(
            TypeAdapter(Name).validate_python(given["purpose"], strict=True),
            TypeAdapter(LegalBasis).validate_python(given["legal_basis"], strict=True),
            features,
            told,
            centres,
            fill,
            plain["releasable"] is True,
        )

    @cached_property
    def space(self) -> Embedding:
        """Codes in the order of `features` as coordinates."""
        return Embedding(self.features, tuple(range(len(self.features))))

    def assign(self, codes: CodeArray) -> tuple[IntArray, FloatArray]:
        """Of each row of (n, features) codes: the place of the nearest centre, and how far it is.

        Squared distances are whole numbers and compared as such; of equal ones the first counts.
        Distances are in ranges: 1 is one feature's whole range, or two levels that differ.
        """
        labels = np.empty(len(codes), dtype=np.int64)
        far = np.empty(len(codes))
        for start in range(0, len(codes), CHUNK):
            squared = self.parts(codes[start : start + CHUNK]).sum(axis=2)
            labels[start : start + CHUNK] = squared.argmin(axis=1)
            far[start : start + CHUNK] = np.sqrt(squared.min(axis=1)) / GRID
        return labels, far

    def parts(self, codes: CodeArray) -> FloatArray:
        """What each feature adds to the squared distance to each centre, (n, k, features), in
        squared grid steps."""
        rows = self.space.expand(codes, self.fill)
        starts = list(self.space.offsets[:-1])
        found = [np.add.reduceat((rows - centre) ** 2, starts, axis=1) for centre in self.centres]
        return np.stack(found, axis=1)


def read(folder: Path) -> SegmentModel:
    """The segments of a result folder.

    Raises:
        ModelError: there are none, or the file is broken, or of another version of Kesit.
    """
    path, remedy = folder / SEGMENTS, "Give the folder of a segmentation's result."
    if (folder / MODEL).exists():
        remedy = "This result is a classifier: use `kesit client score`."
    data = file_bytes(path, remedy=remedy)
    return built(data, path, SegmentModel.from_dict)
