"""What evaluation.json tells people: read back, and its text in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kesit_server import telling
from kesit_server.classification.evaluated import EVALUATION, FORMAT
from kesit_server.classification.judged import ModelEvaluation
from kesit_server.classification.uplift import retold
from kesit_server.naming import Language, Wording
from kesit_server.telling import NOT_RELEASABLE

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

    study: str
    run: str
    epsilon: float
    delta: float
    releasable: bool
    caveats: tuple[Wording, ...]
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
        text, number = TypeAdapter(str), TypeAdapter(float)
        wordings = TypeAdapter(tuple[Wording, ...])
        return cls(
            text.validate_python(plain["study"], strict=True),
            text.validate_python(plain["run"], strict=True),
            number.validate_python(plain["epsilon_spent"]),
            number.validate_python(plain["delta"]),
            TypeAdapter(bool).validate_python(plain["releasable"], strict=True),
            wordings.validate_python(plain["caveats"]),
            text.validate_python(plain["target"], strict=True),
            text.validate_python(plain["model"], strict=True),
            ModelEvaluation.from_dict(plain["evaluation"]),
            retold(plain["uplift"]),
        )

    def text(self, language: Language = "en") -> str:
        """All of it, for a person."""
        parts = [
            telling.title(self.study, self.run, self.epsilon, self.delta, language),
            f"{self.target} · model.json SHA-256 {self.model}",
            f"{_JUDGED.of(language)}\n{self.evaluation.text(language)}",
            *(words.of(language) for words in self.uplift),
        ]
        if not self.releasable:
            told = [words.of(language) for words in self.caveats]
            parts.insert(0, "\n".join([NOT_RELEASABLE.of(language), *told]))
        return "\n\n".join(parts)


def read(folder: Path) -> EvaluationTelling:
    """What a result folder's evaluation.json tells.

    Raises:
        ResultError: there is none, or it is broken, or no file of this version of Kesit.
    """
    return telling.read_with(folder / EVALUATION, EvaluationTelling.from_dict)
