"""Words and numbers for people, in English and Turkish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kesit_privacy.features import Feature

Language = Literal["en", "tr"]

_TURKISH_LETTERS = frozenset("çğışöüÇĞİŞÖÜ")


@dataclass(frozen=True)
class Wording:
    """The same in English and in Turkish."""

    en: str
    tr: str

    def of(self, language: Language) -> str:
        """The text in that language."""
        return self.tr if language == "tr" else self.en

    def as_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return {"en": self.en, "tr": self.tr}


CELLS = {
    "(unknown)": Wording("(unknown)", "(bilinmeyen)"),
    "(missing)": Wording("(missing)", "(eksik)"),
}
"""What stands for a level that the study does not list, and for no value."""

NOT_RELEASABLE = Wording("Simulated, not releasable", "Simülasyon, yayımlanamaz")


@dataclass(frozen=True)
class Vocabulary:
    """How features are called in each language.

    A feature without a label in a language (none at all, or an empty one) goes by its name in the
    study there, with spaces for underscores. Whether such names begin a Turkish text by Turkish
    rules (i → İ) cannot be seen in "income": they do if any name of the study has a letter that
    only Turkish has, and Turkish labels always do.
    """

    labels: Mapping[str, Wording] = field(default_factory=dict)
    turkish_names: bool = False

    @classmethod
    def of(cls, names: Iterable[str], labels: Mapping[str, Wording] | None = None) -> Vocabulary:
        """The vocabulary of a study whose features (and levels) have these names."""
        turkish = any(letter in _TURKISH_LETTERS for name in names for letter in name)
        return cls(labels or {}, turkish)

    def feature(self, name: str, language: Language) -> str:
        """What a feature is called."""
        label = self.labels.get(name)
        return (label and label.of(language)) or name.replace("_", " ")

    def is_turkish(self, name: str) -> bool:
        """Whether what the feature is called in Turkish text is Turkish."""
        label = self.labels.get(name)
        return self.turkish_names or bool(label and label.tr)


def capitalised(text: str, *, turkish: bool) -> str:
    """The text with its first letter upper-case: in Turkish, i becomes İ and ı becomes I."""
    if not text:
        return text
    first = "İ" if turkish and text[0] == "i" else text[0].upper()
    return first + text[1:]


def labels(features: Iterable[Feature]) -> dict[str, Wording]:
    """What the study calls its features; empty in a language without a label."""
    return {
        feature.name: Wording(feature.label_en or "", feature.label_tr or "")
        for feature in features
        if feature.label_en or feature.label_tr
    }


def number(value: float, language: Language) -> str:
    """A number with as many digits as a person wants to read: 1,234 or 1.234; 5.25 or 5,25."""
    size = abs(value)
    return fixed(value, 0 if size >= 1000 else 1 if size >= 10 else 2, language)


def fixed(value: float, digits: int, language: Language) -> str:
    """A number with so many digits after the point; what rounds to 0 has no sign."""
    return local(_unsigned_zero(f"{value:,.{digits}f}"), language)


def count(value: float, language: Language) -> str:
    """A whole number: 1,234 or 1.234."""
    return local(f"{round(value):,}", language)


def percent(share: float, language: Language, digits: int = 1) -> str:
    """A share as "12.5%", in Turkish "%12,5"."""
    text = fixed(100 * share, digits, language)
    if language != "tr":
        return f"{text}%"
    return f"-%{text[1:]}" if text.startswith("-") else f"%{text}"


def _unsigned_zero(text: str) -> str:
    """The same; 0 for what rounds to -0."""
    return text if text.strip("-0.,") else text.removeprefix("-")


def local(text: str, language: Language) -> str:
    """A written number with the marks of the language."""
    return text.translate(str.maketrans(",.", ".,")) if language == "tr" else text
