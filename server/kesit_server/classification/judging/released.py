"""A model that was released before, read for a study that only evaluates it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kesit_privacy import model_file
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import ModelError, StudyError
from kesit_privacy.features import Feature, FloatArray
from kesit_privacy.model_file import MODEL, ScoringModel
from kesit_privacy.models import Model, read_model
from kesit_privacy.study import Study
from kesit_privacy.target import Target


@dataclass(frozen=True)
class Released:
    """A released model, as the study that evaluates it sees customers.

    Attributes:
        digest: SHA-256 of the file, in hex; data: its bytes.
        model: for rows of the study's code matrix.
        cells: for each feature (cells,) customers whom its training counted.
        shares: (classes,) share of each class there.
        threshold: chance from which its own evaluation predicted the second of two classes.
        notice: what members should know before they agree on the study, or "".
    """

    digest: str
    data: bytes
    model: Model
    cells: tuple[FloatArray, ...]
    shares: FloatArray
    threshold: float | None
    notice: str = ""


def released_model(study: Study, folder: Path | None) -> Released | None:
    """The model that the study evaluates, of a result folder; None for a study that trains.

    Raises:
        StudyError: a model is missing, or is given to a study that evaluates none.
        ModelError: it cannot be read, is not the one agreed on, was released for another purpose,
            or does not fit the study.
    """
    agreed = None if study.classification is None else study.classification.released
    if agreed is None:
        if folder is None:
            return None
        raise StudyError(
            "classification.estimator",
            "this study evaluates no released model.",
            remedy='Leave --model out, or agree on a study with estimator = "released".',
        )
    require(study, folder)
    assert folder is not None
    data, path = model_file.read_bytes(folder), folder / MODEL
    digest = hashlib.sha256(data).hexdigest()
    if digest != agreed:
        raise ModelError(
            f"{path}: its SHA-256 is {digest}, and the study evaluates {agreed}.",
            remedy="Give the folder of the model that the members agreed on; or agree on this one,"
            " with a new study.",
        )
    scoring = model_file.parse(data, path)
    _check_purpose(study, scoring, path)
    _check_fits(study, scoring, path)
    model = read_model(Embedding.of(study), Target.of(study).logits, scoring.model.params())
    try:
        found = _of(digest, data, model, json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: does not say which customers its training counted.",
            remedy="Give the folder as it was written.",
        ) from error
    return replace(found, notice=_other_ground(study, scoring))


def require(study: Study, given: object | None) -> None:
    """Refuse a study that evaluates a released model, and none was given.

    Raises:
        StudyError: so it is.
    """
    if given is None and study.classification is not None and not study.classification.trains:
        raise StudyError(
            "classification.released",
            "the study evaluates a released model, and none was given.",
            remedy="Give the folder of its result: --model FOLDER.",
        )


def _of(digest: str, data: bytes, model: Model, plain: Mapping[str, Any]) -> Released:
    shares = np.array(plain["class_shares"], dtype=np.float64)
    classes = 2 if model.logits == 1 else model.logits
    if shares.shape != (classes,) or not ((shares > 0) & (shares <= 1)).all():
        raise ValueError("class_shares are no shares of the classes")
    cells = tuple(np.maximum(np.array(c, dtype=np.float64), 0) for c in plain["cell_customers"])
    found = (plain["evaluation"] or {}).get("threshold")
    threshold = None if found is None else float(found)
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError("the threshold is no chance")
    return Released(digest, data, model, cells, shares / shares.sum(), threshold)


def _check_purpose(study: Study, scoring: ScoringModel, path: Path) -> None:
    """A model is for the purpose of its study alone: to evaluate it for another is the first step
    to using it for another, and no one was asked."""
    if scoring.purpose != study.purpose:
        raise ModelError(
            f"{path}: was released for the purpose {scoring.purpose!r}, and the study's is"
            f" {study.purpose!r}.",
            remedy="Give the study the model's purpose, if it is for that; for another purpose"
            " agree on a study of its own, and train a model in it.",
        )


def _other_ground(study: Study, scoring: ScoringModel) -> str:
    """Of the same purpose, customers of another ground may be counted; people should know it."""
    if scoring.legal_basis == study.legal_basis:
        return ""
    return (
        f"the model was released on the ground {scoring.legal_basis}, and the study counts"
        f" customers on the ground {study.legal_basis}: make sure that this ground carries the"
        " evaluation, too"
    )


def _check_fits(study: Study, scoring: ScoringModel, path: Path) -> None:
    target, features = Target.of(study), Embedding.of(study).features
    if (scoring.target, scoring.classes) != (study.target, target.classes):
        raise ModelError(
            f"{path}: predicts {scoring.target} ({', '.join(scoring.classes)}), and the study's"
            f" target is {study.target} ({', '.join(target.classes)}).",
            remedy="Give target and classification.positive as the model's study has them.",
        )
    if _bare(scoring.features) != _bare(features):
        raise ModelError(
            f"{path}: goes by {_listed(scoring.features)}, and the study's model by"
            f" {_listed(features)}, or their bounds or levels differ.",
            remedy="Copy the features from the model's study, in its order; name those that the"
            " model does not use as arms or protected, or name the others in"
            " classification.features.",
        )


def _bare(features: tuple[Feature, ...]) -> list[Feature]:
    """Features without what does not change a code."""
    return [
        replace(f, label_en=None, label_tr=None, tags=(), may_be_constant=False) for f in features
    ]


def _listed(features: tuple[Feature, ...]) -> str:
    return ", ".join(feature.name for feature in features)
