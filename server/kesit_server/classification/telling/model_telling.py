"""What model.json tells people: read back, and its text in two languages.

Points are the scale of scorecards: 20 points double the odds (`PER_LOGIT`), so that whole numbers
are fine enough to read and to add up by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.features import GRID, Feature, FloatArray, Numeric
from kesit_privacy.model_file import MODEL, ScoringModel
from kesit_privacy.scorecard import LOGIT, Cells
from kesit_server import reading, wording
from kesit_server.classification.judging.judged import ModelEvaluation
from kesit_server.classification.judging.uplift import retold
from kesit_server.reading import WORDINGS, Heading
from kesit_server.wording import CELLS, Language, Vocabulary, Wording

PER_LOGIT = 20 / math.log(2)
"""Points of one logit: 20 double the odds."""

MOST_ROWS = 8
"""Rows of a feature's table; neighbouring cells of a number are put together until they fit."""

_WORDS = {
    "predicts": Wording("Predicts", "Tahmin edilen"),
    "doubts": Wording("What to doubt", "Kuşku duyulacaklar"),
    "unused": Wording("not in the model", "modelde olmayan"),
    "purpose": Wording("purpose", "amaç"),
    "importances": Wording(
        "What it goes by (standard deviation of a feature's points over customers)",
        "Neye baktığı (özelliğin puanlarının müşteriler arasındaki standart sapması)",
    ),
    "table": Wording(
        "Points{of} (20 points double the odds; ± is one standard deviation)",
        "Puanlar{of} (20 puan olasılık oranını ikiye katlar; ± bir standart sapmadır)",
    ),
    "bare table": Wording(
        "Points{of} of each feature alone, all others as usual (20 points double the odds)",
        "Her özelliğin, ötekiler olağanken tek başına puanları{of}"
        " (20 puan olasılık oranını ikiye katlar)",
    ),
    "cells": Wording(
        "(unknown): a value that the study does not list; (missing): no value",
        "(bilinmeyen): çalışmanın listelemediği bir değer; (eksik): değer yok",
    ),
    "start": Wording("everybody", "herkes"),
    "judged": Wording(
        "How good it is (customers whom training did not count)",
        "Ne kadar iyi (eğitimin saymadığı müşterilerde)",
    ),
    "unjudged": Wording(
        "How good it is was not evaluated: nothing was left for that sum.",
        "Ne kadar iyi olduğu ölçülmedi: o toplam için bütçe kalmadı.",
    ),
    "not_for": Wording("What it must not be used for", "Ne için kullanılamaz"),
}


@dataclass(frozen=True)
class Row:
    """Neighbouring cells of one feature, put together.

    Attributes:
        label: what the cells hold; points, spread: (logits,) of the cells' customers, in points.
        customers: noisy number whom training counted; ends: (lower, upper) in the feature's unit,
            None for cells that are no interval.
    """

    label: Wording
    points: FloatArray
    spread: FloatArray
    customers: float
    ends: tuple[float, float] | None


@dataclass(frozen=True)
class ModelTelling:
    """What model.json holds for people.

    Attributes:
        spreads, customers: for each feature, (cells, logits) and (cells,), as in the file; of a
            network there are no spreads.
        evaluation: None if there was none; uplift: of an A/B evaluation, told.
    """

    heading: Heading
    estimator: str
    model: ScoringModel
    spreads: tuple[FloatArray, ...]
    customers: tuple[FloatArray, ...]
    importances: Mapping[str, float]
    evaluation: ModelEvaluation | None
    uplift: tuple[Wording, ...]
    doubts: tuple[Wording, ...]
    not_for: tuple[Wording, ...]
    vocabulary: Vocabulary

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelTelling:
        """What a parsed model.json tells.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, ProtocolError: it is none.
        """
        model, judged = ScoringModel.from_dict(plain), plain["evaluation"]
        text = TypeAdapter(str)
        importances = TypeAdapter(dict[str, float]).validate_python(plain["importances"])
        if set(importances) != {feature.name for feature in model.features}:
            raise ValueError("the importances are not those of the features")
        return cls(
            Heading.from_dict(plain),
            text.validate_python(plain["estimator"], strict=True),
            model,
            _arrays(plain["spreads"], model, 2) if plain["spreads"] else (),
            _arrays(plain["cell_customers"], model, 1),
            importances,
            None if judged is None else ModelEvaluation.from_dict(judged),
            retold(plain["uplift"]),
            WORDINGS.validate_python(plain["doubts"]),
            WORDINGS.validate_python(plain["not_for"]),
            Vocabulary(TypeAdapter(dict[str, Wording]).validate_python(plain["labels"])),
        )

    @property
    def by_importance(self) -> list[int]:
        """Places of the features, the most important first."""
        names = [feature.name for feature in self.model.features]
        return sorted(range(len(names)), key=lambda place: -self.importances[names[place]])

    @property
    def used(self) -> list[int]:
        """The same without features that have no points at all, unless none has."""
        parts = self.model.shapes.parts
        found = [
            place
            for place in self.by_importance
            if not isinstance(part := parts[place], Cells) or part.array.any()
        ]
        return found or self.by_importance

    @property
    def second(self) -> str | None:
        """Of two classes the one for which the points speak."""
        return self.model.classes[1] if len(self.model.classes) == 2 else None

    def rows(self, place: int, language: Language = "en", most: int = MOST_ROWS) -> list[Row]:
        """A feature's table, at most `most` rows and one for missing values."""
        feature, part = self.model.features[place], self.model.shapes.parts[place]
        assert isinstance(part, Cells)
        points = part.array / LOGIT * PER_LOGIT
        spread = self.spreads[place] * PER_LOGIT if self.spreads else np.zeros_like(points)
        customers = self.customers[place]
        groups = _groups(feature, points, customers, most)
        return [
            Row(
                _label(feature, group, len(points) - 1, language),
                _mean(points, customers, group),
                _mean(spread, customers, group),
                float(customers[group].sum()),
                _ends(feature, group, len(points) - 1),
            )
            for group in groups
        ]

    def text(self, language: Language = "en") -> str:
        """All of it, for a person."""
        parts = [self._head(language), *self._judged(language)]
        parts += [self._importances(language), self._tables(language)]
        if self.doubts:
            doubts = [f"  {words.of(language)}" for words in self.doubts]
            parts.insert(1, "\n".join([_WORDS["doubts"].of(language), *doubts]))
        barred = [f"  {words.of(language)}" for words in self.not_for]
        parts.append("\n".join([_WORDS["not_for"].of(language), *barred]))
        return self.heading.over(parts, language)

    def _head(self, language: Language) -> str:
        target = self.vocabulary.feature(self.model.target, language)
        classes = ", ".join(self.model.classes)
        purpose = f"{_WORDS['purpose'].of(language)}: {self.model.purpose}"
        return f"{_WORDS['predicts'].of(language)}: {target} ({classes}) · {purpose}"

    def _judged(self, language: Language) -> list[str]:
        if self.evaluation is None:
            return [_WORDS["unjudged"].of(language)]
        found = f"{_WORDS['judged'].of(language)}\n{self.evaluation.text(language)}"
        return [found, *(words.of(language) for words in self.uplift)]

    def _importances(self, language: Language) -> str:
        lines = [_WORDS["importances"].of(language)]
        names = {name: self.vocabulary.feature(name, language) for name in self.importances}
        used = self.used
        width = max(len(names[self.model.features[place].name]) for place in used)
        largest = max([*self.importances.values(), 1e-9])
        for place in used:
            name = self.model.features[place].name
            value = self.importances[name]
            bar = "█" * round(30 * value / largest)
            told = wording.number(value * PER_LOGIT, language)
            lines.append(f"  {names[name]:<{width}}  {told:>7}  {bar}".rstrip())
        unused = [p for p in self.by_importance if p not in used]
        if unused:
            told = ", ".join(names[self.model.features[place].name] for place in unused)
            lines.append(f"  {_WORDS['unused'].of(language)}: {told}")
        return "\n".join(lines)

    def _tables(self, language: Language) -> str:
        of = "" if self.second is None else f": {self.second}"
        words = _WORDS["table" if self.spreads else "bare table"].of(language)
        lines = [words.replace("{of}", of), f"  {_WORDS['cells'].of(language)}"]
        if self.second is None:
            lines.append("  " + " | ".join(self.model.classes))
        start = np.array(self.model.shapes.intercept) / LOGIT * PER_LOGIT
        lines.append(f"  {_WORDS['start'].of(language)}: {_points(start, None)}")
        for place in self.used:
            name = self.vocabulary.feature(self.model.features[place].name, language)
            lines += ["", f"  {name}"]
            rows = self.rows(place, language)
            width = max(len(row.label.of(language)) for row in rows)
            lines += [f"    {row.label.of(language):<{width}}  {self._told(row)}" for row in rows]
        return "\n".join(lines)

    def _told(self, row: Row) -> str:
        return _points(row.points, row.spread if self.spreads else None)


def read(folder: Path) -> ModelTelling:
    """What a result folder's model.json tells.

    Raises:
        ResultError: there is none, or it is broken, or no file of this version of Kesit.
    """
    return reading.read_with(folder / MODEL, ModelTelling.from_dict)


def _points(values: FloatArray, spread: FloatArray | None) -> str:
    sides = [None] * len(values) if spread is None else spread
    return " | ".join(
        f"{_signed(value):>5}" + ("" if side is None else f" ± {side:.0f}")
        for value, side in zip(values, sides, strict=True)
    )


def _signed(value: float) -> str:
    """A whole number with its sign; what rounds to 0 has none."""
    return f"{value:+.0f}" if abs(value) >= 0.5 else "0"


def _groups(
    feature: Feature, points: FloatArray, customers: FloatArray, most: int
) -> list[list[int]]:
    """Cells that stand in one row: a number's neighbours whose points differ least go first."""
    if not isinstance(feature, Numeric):
        return [[cell] for cell in range(len(points))]
    groups = [[cell] for cell in range(len(points) - 1)]
    while len(groups) > most:
        means = np.array([_mean(points, customers, group) for group in groups])
        sizes = np.array([customers[group].sum() + 1 for group in groups])
        gaps = ((means[1:] - means[:-1]) ** 2).sum(axis=1)
        costs = gaps * sizes[1:] * sizes[:-1] / (sizes[1:] + sizes[:-1])  # Ward's
        place = int(costs.argmin())
        groups[place : place + 2] = [groups[place] + groups[place + 1]]
    return [*groups, [len(points) - 1]]


def _mean(values: FloatArray, customers: FloatArray, group: Sequence[int]) -> FloatArray:
    weights = np.maximum(customers[group], 1e-3)
    found: FloatArray = weights @ values[group] / weights.sum()
    return found


def _label(feature: Feature, group: Sequence[int], bins: int, language: Language) -> Wording:
    if not isinstance(feature, Numeric):
        level = group[0]
        if level < len(feature.levels):
            return Wording(feature.levels[level], feature.levels[level])
        return CELLS["(unknown)" if level == feature.unknown else "(missing)"]
    ends = _ends(feature, group, bins)
    if ends is None:
        return CELLS["(missing)"]
    low, high = (wording.number(end, language) for end in ends)
    return Wording(f"{low} .. {high}", f"{low} .. {high}")


def _ends(feature: Feature, group: Sequence[int], bins: int) -> tuple[float, float] | None:
    if not isinstance(feature, Numeric) or group[0] == bins:
        return None
    step = GRID / bins
    return feature.decode(group[0] * step), feature.decode((group[-1] + 1) * step)


def _arrays(plain: Any, model: ScoringModel, dimensions: int) -> tuple[FloatArray, ...]:
    """The file's numbers for each feature's cells.

    Raises:
        ValueError: another shape than the model's.
    """
    found = tuple(np.array(values, dtype=np.float64) for values in plain)
    logits = len(model.shapes.intercept)
    for part, values in zip(model.shapes.parts, found, strict=True):
        cells = len(part.values) if isinstance(part, Cells) else 0
        if values.shape != ((cells,) if dimensions == 1 else (cells, logits)):
            raise ValueError("cells and their numbers differ")
    return found
