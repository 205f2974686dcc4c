"""What evaluation.json tells people: read back, and its text in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kesit_server import reading
from kesit_server.classification.evaluated import FORMAT
from kesit_server.classification.judging.judged import ModelEvaluation
from kesit_server.classification.judging.uplift import retold
from kesit_server.reading import Heading
from kesit_server.results import EVALUATION
from kesit_server.wording import Language, Wording

_JUDGED = Wording(
    "How good the released model is (all customers; none of them trained it here)",
    "Yayımlanmış modelin ne kadar iyi olduğu (tüm müşteriler; burada eğitim yapılmadı)",
)


@dataclass(frozen=True)
class EvaluationTelling:
    """What evaluation.json holds for people.

    Attributes:
        model: SHA-256 of the model's file; uplift: of an A/B evaluation, told.
    """

    heading: Heading
    target: str
    model: str
    evaluation: ModelEvaluation
    uplift: tuple[Wording, ...]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> EvaluationTelling:
        """What a parsed evaluation.json tells.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none.
        """
        if plain["kesit_evaluation"] != FORMAT:
            raise ValueError(f"its format is {plain['kesit_evaluation']!r}, not {FORMAT}")
        text = TypeAdapter(str)
        return cls(
            Heading.from_dict(plain),
            text.validate_python(plain["target"], strict=True),
            text.validate_python(plain["model"], strict=True),
            ModelEvaluation.from_dict(plain["evaluation"]),
            retold(plain["uplift"]),
        )

    def text(self, language: Language = "en") -> str:
        """All of it, for a person."""
        parts = [
            f"{self.target} · model.json SHA-256 {self.model}",
            f"{_JUDGED.of(language)}\n{self.evaluation.text(language)}",
            *(words.of(language) for words in self.uplift),
        ]
        return self.heading.over(parts, language)


def read(folder: Path) -> EvaluationTelling:
    """What a result folder's evaluation.json tells.

    Raises:
        ResultError: there is none, or it is broken, or no file of this version of Kesit.
    """
    return reading.read_with(folder / EVALUATION, EvaluationTelling.from_dict)
