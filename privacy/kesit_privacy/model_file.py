"""A model file: a released classifier read back, with all that scoring a customer needs.

Anyone may have written the file, so every number is checked as a query's parameters are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import KesitError, ModelError
from kesit_privacy.features import CodeArray, Feature, FloatArray, Name
from kesit_privacy.models import Model, read_model
from kesit_privacy.scorecard import CHANCE, LOGIT, Cells
from kesit_privacy.study import LegalBasis

MODEL = "model.json"
"""Name of the file in a result folder."""

FORMAT = 1
"""Of model.json; it changes when a program that reads an older one must change."""

MOST_CUSTOMERS = 1e15
"""No cell holds as many."""


@dataclass(frozen=True)
class ScoringModel:
    """A classifier for customers who are coded by `features`.

    Attributes:
        purpose, legal_basis: of the study, for which alone it may be used.
        classes: names; of two, the second is the one whose chance is told.
        usual: for each feature (logits,) mean points of the customers whom training counted.
    """

    purpose: str
    legal_basis: str
    target: str
    classes: tuple[str, ...]
    features: tuple[Feature, ...]
    model: Model
    usual: FloatArray

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
        usual = _usual(model, plain["cell_customers"])
        name = TypeAdapter(Name)
        return cls(
            name.validate_python(plain["purpose"], strict=True),
            TypeAdapter(LegalBasis).validate_python(plain["legal_basis"], strict=True),
            name.validate_python(plain["target"], strict=True),
            classes,
            features,
            model,
            usual,
        )

    def chances(self, codes: CodeArray) -> FloatArray:
        """Chance of each class, shape (n, classes), for codes in the order of `features`."""
        found: FloatArray = self.model.chances(codes) / CHANCE
        return found

    def reasons(self, codes: CodeArray) -> FloatArray:
        """What each feature adds beyond what is usual, in logits: (n, features, logits).

        A reason is exact: an additive model's points are the sum of these, the usual points and the
        intercept.
        """
        found = [
            part.points(feature, codes[:, place]) / LOGIT - usual
            for place, (feature, part, usual) in enumerate(
                zip(self.features, self.model.parts, self.usual, strict=True)
            )
        ]
        return np.stack(found, axis=1)


def read(folder: Path) -> ScoringModel:
    """The model of a result folder.

    Raises:
        ModelError: there is none, or it is broken, or no file of this version of Kesit.
    """
    path = folder / MODEL
    try:
        return ScoringModel.from_dict(json.loads(path.read_bytes()))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Give the folder of a classifier's result.",
        ) from error
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


def _usual(model: Model, customers: Any) -> FloatArray:
    """Mean points of each feature over its cells' customers, in logits."""
    found = []
    for part, given in zip(model.parts, customers, strict=True):
        weights = np.maximum(np.array(given, dtype=np.float64), 0)
        if not isinstance(part, Cells) or weights.shape != (len(part.values),):
            raise ValueError("cell_customers are not those of the model")
        if not (weights <= MOST_CUSTOMERS).all():  # nor is "not a number"
            raise ValueError("cell_customers are no numbers of customers")
        total = max(float(weights.sum()), 1e-9)
        found.append(weights @ part.array / total / LOGIT)
    return np.array(found)
