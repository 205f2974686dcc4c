"""What a rule may come to, and the words for it in both languages."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from kesit_privacy.features import STRICT

Language = Literal["en", "tr"]
LANGUAGES: tuple[Language, ...] = ("en", "tr")

Text = Annotated[str, Field(min_length=1)]
MOST_NAMES = 8


@dataclass(frozen=True, config=STRICT)
class Words:
    """One text in English and in Turkish."""

    en: Text
    tr: Text

    def to(self, language: Language) -> str:
        """The text in that language."""
        return self.tr if language == "tr" else self.en

    def __add__(self, other: Words) -> Words:
        return Words(f"{self.en} {other.en}", f"{self.tr} {other.tr}")


class Verdict(StrEnum):
    """`INCONCLUSIVE`: not enough is known. `NEEDS_COUNSEL`: a lawyer decides, not software."""

    PASS = "PASS"  # noqa: S105  (no password)
    NEEDS_COUNSEL = "NEEDS COUNSEL"
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"


VERDICT_WORDS: dict[Verdict, Words] = {
    Verdict.PASS: Words("PASS", "UYGUN"),
    Verdict.NEEDS_COUNSEL: Words("NEEDS COUNSEL", "HUKUKÇUYA"),
    Verdict.INCONCLUSIVE: Words("INCONCLUSIVE", "BELİRSİZ"),
    Verdict.FAIL: Words("FAIL", "AYKIRI"),
}


@dataclass(frozen=True)
class Outcome:
    """What a check found, before its rule is asked whether counsel is needed anyway."""

    verdict: Verdict
    evidence: Words


def passed(en: str, tr: str) -> Outcome:
    """The duty is met, as far as the facts go."""
    return Outcome(Verdict.PASS, Words(en, tr))


def failed(en: str, tr: str) -> Outcome:
    """The duty is not met."""
    return Outcome(Verdict.FAIL, Words(en, tr))


def unknown(en: str, tr: str) -> Outcome:
    """Not enough is known."""
    return Outcome(Verdict.INCONCLUSIVE, Words(en, tr))


def counsel(en: str, tr: str) -> Outcome:
    """Software cannot decide this."""
    return Outcome(Verdict.NEEDS_COUNSEL, Words(en, tr))


def not_known(label: Words) -> Outcome:
    """One fact is missing, by its name."""
    return unknown(f"Not known: {label.en}.", f"Bilinmiyor: {label.tr}.")


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are, in any language."""
    all_of_them = list(names)
    shown, more = all_of_them[:MOST_NAMES], len(all_of_them) - MOST_NAMES
    return ", ".join(shown) + (f", ... (+{more})" if more > 0 else "")
