"""The study's task, whichever it is: what is found over a federation, and what is told of it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from kesit_server.classification.classifier import Classifier, classify
from kesit_server.classification.evaluated import (
    Evaluated,
    EvaluationCard,
    evaluate_released,
)
from kesit_server.classification.judging.released import Released
from kesit_server.classification.telling.card import model_card
from kesit_server.portrait.portrait import portray
from kesit_server.segmentation.segmenter import Segmentation, segment
from kesit_server.sums import Sums

Finding = Segmentation | Classifier | Evaluated


class Told(Protocol):
    """What a result folder tells of a finding, beside what it cost."""

    @property
    def file(self) -> str:
        """Name of its JSON file."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""


def analyse(
    federation: Sums, rng: np.random.Generator, released: Released | None = None
) -> Finding:
    """Segments, or a classifier; see `segment` and `classify` for what it raises.

    Args:
        released: a model that is evaluated, and then nothing is trained.
    """
    if released is not None:
        return evaluate_released(federation, released)
    if federation.study.classification is not None:
        return classify(federation)
    return segment(federation, rng)


def present(finding: Finding, rng: np.random.Generator) -> Told:
    """Cards of segments, or of a model. Post-processing: it costs no privacy."""
    if isinstance(finding, Evaluated):
        return EvaluationCard(finding)
    if isinstance(finding, Classifier):
        return model_card(finding)
    return portray(finding, rng)
