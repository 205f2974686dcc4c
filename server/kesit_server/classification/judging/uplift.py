"""A/B evaluation: what a treatment changed, for whom the model chooses and for everybody.

Each arm's rate has an interval over sampling and noise (`metrics.share`); arms have no cell and no
customer in common, so the interval of their difference is MOVER's (`metrics.difference`). It is the
effect of the treatment only if chance decided who was treated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from kesit_privacy.features import FloatArray
from kesit_privacy.queries import ScoreEvaluation
from kesit_server.classification.judging.metrics import Metric, difference, share
from kesit_server.errors import ResultError
from kesit_server.sums import NoisySum
from kesit_server.wording import Language, Wording, percent

RANDOM = Wording(
    "The difference is the treatment's effect only if chance decided who was treated.",
    "Fark, ancak kimin uygulamaya alındığına rastgele karar verildiyse uygulamanın etkisidir.",
)


@dataclass(frozen=True)
class Comparison:
    """Rates of the second class in two arms, and the treated less the control."""

    treated: Metric
    control: Metric
    difference: Metric

    @property
    def clear(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        ends = self.difference.interval_95
        return ends is not None and not ends[0] <= 0 <= ends[1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "treated": self.treated.as_dict(),
            "control": self.control.as_dict(),
            "difference": self.difference.as_dict(),
            "clear": self.clear,
        }


@dataclass(frozen=True)
class Uplift:
    """One arm beside the control.

    Attributes:
        chosen, others: customers at or above the model's threshold, and below it.
    """

    arm: str
    control: str
    chosen: Comparison
    others: Comparison
    everybody: Comparison

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "arm": self.arm,
            "control": self.control,
            "note": RANDOM.as_dict(),
            "chosen": self.chosen.as_dict(),
            "others": self.others.as_dict(),
            "everybody": self.everybody.as_dict(),
        }

    def told(self) -> dict[str, Any]:
        """`as_dict` with the lines of its text in both languages; `retold` reads them back."""
        return {**self.as_dict(), "text": {"en": self.lines("en"), "tr": self.lines("tr")}}

    def text(self, language: Language = "en") -> str:
        """For a person."""
        return "\n".join(self.lines(language))

    def lines(self, language: Language = "en") -> list[str]:
        """For a person: the arms, a line for each group, and what the difference is."""
        groups = {
            "chosen": Wording("whom the model would choose", "modelin seçeceği müşteriler"),
            "others": Wording("whom it would not choose", "modelin seçmeyeceği müşteriler"),
            "everybody": Wording("everybody", "tüm müşteriler"),
        }
        lines = [f"{self.arm} - {self.control}"]
        for name, words in groups.items():
            found: Comparison = getattr(self, name)
            lines.append(f"  {words.of(language)}: {_points(found, language)}")
        return [*lines, f"  {RANDOM.of(language)}"]


def uplift(
    query: ScoreEvaluation, opened: NoisySum, threshold: int, *, noisy: bool = True
) -> tuple[Uplift, ...]:
    """Each other arm beside the first, the control.

    Args:
        threshold: points from which the model chooses a customer (`Expected.threshold`); the
            nearest edge of the query's cells counts.

    Raises:
        ResultError: the study names no arms.
    """
    if query.arms is None:
        raise ResultError(
            "This study compares nothing: it names no arms.",
            remedy="Name the feature that says who was treated, as classification.arms.",
        )
    noise = query.noise(opened.sigma if noisy else 0.0)[0]
    counts = query.by_arm(opened.values)
    place = int(np.argmin(np.abs(np.array(query.edges[0]) - threshold))) + 1
    control, *arms = query.arms.levels
    return tuple(
        Uplift(
            arm,
            control,
            _compare(counts[number, place:], counts[0, place:], noise),
            _compare(counts[number, :place], counts[0, :place], noise),
            _compare(counts[number], counts[0], noise),
        )
        for number, arm in enumerate(arms, start=1)
    )


def retold(plain: Iterable[Mapping[str, Any]]) -> tuple[Wording, ...]:
    """The texts of a file's uplifts, which `Uplift.told` wrote.

    Raises:
        KeyError, TypeError, ValueError: there are none.
    """
    lines = TypeAdapter(dict[str, tuple[str, ...]])
    found = [lines.validate_python(one["text"]) for one in plain]
    return tuple(Wording("\n".join(text["en"]), "\n".join(text["tr"])) for text in found)


def _compare(treated: FloatArray, control: FloatArray, noise: float) -> Comparison:
    """Two arms' cells (cells, 2)."""
    blur = noise * len(treated) ** 0.5
    rates = [
        share(float(own), float(others), blur, blur)
        for others, own in (treated.sum(axis=0), control.sum(axis=0))
    ]
    return Comparison(rates[0], rates[1], difference(rates[0], rates[1]))


def _points(found: Comparison, language: Language) -> str:
    """A difference in percentage points."""
    change = found.difference
    if change.value is None or change.interval_95 is None:
        return change.text(language)
    value, low, high = (percent(x, language) for x in (change.value, *change.interval_95))
    words = Wording("not told from no difference", "farksızlıktan ayırt edilemiyor")
    return f"{value} ({low} - {high})" + ("" if found.clear else f", {words.of(language)}")
