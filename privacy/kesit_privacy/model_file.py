"""A model file: a released classifier read back, with all that scoring a customer needs.

Anyone may have written the file, so every number is checked as a query's parameters are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.additive_view import usual as usual_row
from kesit_privacy.additive_view import view
from kesit_privacy.cells import cells_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import KesitError, ModelError
from kesit_privacy.features import CodeArray, Feature, FloatArray, Name
from kesit_privacy.models import Model, read_model
from kesit_privacy.scorecard import CHANCE, LOGIT, Cells, Scorecard
from kesit_privacy.study import LegalBasis

T = TypeVar("T")

MODEL = "model.json"
"""Name of the file in a result folder."""

FORMAT = 1
"""Of model.json; it changes when a program that reads an older one must change."""

MOST_CUSTOMERS = 1e15
"""No cell holds as many."""


@dataclass(frozen=True)
class Cut:
    """A network at its usual customer.

    Attributes:
        shapes: what each feature alone changes there; usual: (features,) that customer's codes.
    """

    shapes: Scorecard
    usual: CodeArray

    def reasons(self, model: Model, codes: CodeArray) -> FloatArray:
        """What each feature changes against a usual value, in logits: (n, features, logits)."""
        points, found = model.points(codes), []
        for place, code in enumerate(self.usual):
            changed = codes.copy()
            changed[:, place] = code
            found.append((points - model.points(changed)) / LOGIT)
        return np.stack(found, axis=1)


@dataclass(frozen=True)
class ScoringModel:
    """A classifier for customers who are coded by `features`.

    Attributes:
        purpose, legal_basis: of the study, for which alone it may be used.
        classes: names; of two, the second is the one whose chance is told.
        usual: for each feature (logits,) mean points of the customers whom training counted.
        cut: of a network, what takes the place of points that add up.
        releasable: whether the run was a real one, with noise and masks; so the file says.
    """

    purpose: str
    legal_basis: str
    target: str
    classes: tuple[str, ...]
    features: tuple[Feature, ...]
    model: Model
    usual: FloatArray
    cut: Cut | None = None
    releasable: bool = False

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ScoringModel:
        """From a parsed model.json.

        Raises:
            KeyError, TypeError, ValueError, ProtocolError: it is none.
        """
        if plain["kesit_model"] != FORMAT:
            raise ValueError(f"its format is {plain['kesit_model']!r}, not {FORMAT}")
        features = TypeAdapter(tuple[Feature, ...]).validate_json(json.dumps(plain["features"]))
        classes = TypeAdapter(tuple[Name, ...]).validate_python(plain["classes"])
        if len(classes) < 2:
            raise ValueError("there are fewer than two classes")
        for names in (classes, [feature.name for feature in features]):
            if len(set(names)) < len(names):
                raise ValueError("a name stands twice")
        space = Embedding(features, tuple(range(len(features))))
        logits = 1 if len(classes) == 2 else len(classes)
        model = read_model(space, logits, plain["model"])
        customers = _customers(space, plain["cell_customers"])
        shapes = view(model, customers)
        usual = _usual(shapes, plain["cell_customers"])
        name = TypeAdapter(Name)
        return cls(
            name.validate_python(plain["purpose"], strict=True),
            TypeAdapter(LegalBasis).validate_python(plain["legal_basis"], strict=True),
            name.validate_python(plain["target"], strict=True),
            classes,
            features,
            model,
            usual,
            None if model is shapes else Cut(shapes, usual_row(space, customers)[0]),
            plain["releasable"] is True,
        )

    def chances(self, codes: CodeArray) -> FloatArray:
        """Chance of each class, shape (n, classes), for codes in the order of `features`."""
        found: FloatArray = self.model.chances(codes) / CHANCE
        return found

    def reasons(self, codes: CodeArray) -> FloatArray:
        """What each feature adds beyond what is usual, in logits: (n, features, logits).

        A reason is exact: an additive model's points are the sum of these, the usual points and the
        intercept. Of a network it is what the points would change if the feature alone were what it
        is for a usual customer.
        """
        if self.cut is not None:
            return self.cut.reasons(self.model, codes)
        found = [
            part.points(feature, codes[:, place]) / LOGIT - usual
            for place, (feature, part, usual) in enumerate(
                zip(self.features, self.shapes.parts, self.usual, strict=True)
            )
        ]
        return np.stack(found, axis=1)

    @property
    def shapes(self) -> Scorecard:
        """The model as features that add up; of a network, its picture (`additive_view`)."""
        if self.cut is not None:
            return self.cut.shapes
        assert isinstance(self.model, Scorecard)
        return self.model


def read(folder: Path) -> ScoringModel:
    """The model of a result folder.

    Raises:
        ModelError: there is none, or it is broken, or no file of this version of Kesit.
    """
    return parse(read_bytes(folder), folder / MODEL)


def read_bytes(folder: Path) -> bytes:
    """The model file of a result folder as it stands.

    Raises:
        ModelError: there is none.
    """
    return file_bytes(folder / MODEL, remedy="Give the folder of a classifier's result.")


def parse(data: bytes, path: Path) -> ScoringModel:
    """The model of a file's bytes.

    Args:
        path: for the error's text.

    Raises:
        ModelError: it is broken, or no file of this version of Kesit.
    """
    return built(data, path, ScoringModel.from_dict)


def file_bytes(path: Path, *, remedy: str) -> bytes:
    """A result's file as it stands.

    Raises:
        ModelError: there is none.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).", remedy=remedy) from error


def built(data: bytes, path: Path, build: Callable[[Mapping[str, Any]], T]) -> T:
    """What the JSON of a result's file holds.

    Args:
        path: for the error's text.

    Raises:
        ModelError: it is broken, or no file of this version of Kesit.
    """
    try:
        return build(json.loads(data))
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        KesitError,
    ) as error:
        raise ModelError(
            f"{path}: is broken, or was not written by this version of Kesit"
            f" ({' '.join(str(error).split())[:160]}).",
            remedy="Give the folder as it was written; or run the study again.",
        ) from error


def _customers(space: Embedding, given: Any) -> list[FloatArray]:
    """The file's customers of each feature's cells."""
    found = [np.array(sizes, dtype=np.float64) for sizes in given]
    for feature, sizes in zip(space.features, found, strict=True):
        if sizes.ndim != 1 or len(sizes) < 3 or len(sizes) != cells_of(feature, len(sizes) - 1):
            raise ValueError("cell_customers are not those of the features")
        if not (np.abs(sizes) <= MOST_CUSTOMERS).all():  # nor is "not a number"
            raise ValueError("cell_customers are no numbers of customers")
    return found


def _usual(model: Scorecard, customers: Any) -> FloatArray:
    """Mean points of each feature over its cells' customers, in logits."""
    found = []
    for part, given in zip(model.parts, customers, strict=True):
        weights = np.maximum(np.array(given, dtype=np.float64), 0)
        if not isinstance(part, Cells) or weights.shape != (len(part.values),):
            raise ValueError("cell_customers are not those of the model")
        total = max(float(weights.sum()), 1e-9)
        found.append(weights @ part.array / total / LOGIT)
    return np.array(found)
