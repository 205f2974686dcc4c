"""What a result folder tells people: segments.json read back, and its text in two languages.

Nothing else of the folder is needed, neither the synopsis nor the study, so a result can be shown
and drawn anywhere.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kesit_privacy.errors import ProtocolError
from kesit_privacy.model_file import MODEL
from kesit_server import naming, results
from kesit_server.assessment import Figure
from kesit_server.cards import Card
from kesit_server.choice import Choice
from kesit_server.errors import ResultError
from kesit_server.hierarchy import Dendrogram
from kesit_server.naming import Language, Vocabulary, Wording

T = TypeVar("T")

FORMAT = 2
"""Of segments.json; it changes when a program that reads an older one must change."""

LARGEST = 1e15
"""No number in a result is as large; a file may come from anyone, and pictures have axes."""

NOT_RELEASABLE = Wording("Simulated, not releasable", "Simülasyon, yayımlanamaz")

FIGURES = {
    "customers": Wording("customers", "müşteri sayısı"),
    "mean_squared_distance": Wording("mean squared distance", "ortalama karesel uzaklık"),
    "silhouette": Wording("silhouette", "siluet"),
    "distance_50": Wording("half are nearer than", "yarısı şundan yakın"),
    "distance_75": Wording("three quarters are nearer than", "dörtte üçü şundan yakın"),
    "distance_90": Wording("nine in ten are nearer than", "onda dokuzu şundan yakın"),
}


@dataclass(frozen=True)
class Telling:
    """What segments.json holds for people.

    Attributes:
        study, run, epsilon, delta: of what the result is, and what it cost.
        caveats: what limits the result.
        fit: figures of the evaluation; None if there was none.
    """

    study: str
    run: str
    epsilon: float
    delta: float
    releasable: bool
    caveats: tuple[Wording, ...]
    cards: tuple[Card, ...]
    tree: Dendrogram
    choice: Choice | None
    fit: Mapping[str, Figure] | None

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Telling:
        """What a parsed segments.json tells.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none.
        """
        if plain["kesit_segments"] != FORMAT:
            raise ValueError(f"its format is {plain['kesit_segments']!r}, not {FORMAT}")
        vocabulary = Vocabulary(TypeAdapter(dict[str, Wording]).validate_python(plain["labels"]))
        cards = tuple(Card.from_dict(row, vocabulary) for row in plain["segments"])
        tree = Dendrogram.from_dict(plain["dendrogram"])
        if [card.segment for card in cards] != list(range(1, len(tree.sizes) + 1)):
            raise ValueError("segments and dendrogram differ")
        choice, fit = plain["choice_of_k"], plain["fit"]
        figures = None if fit is None else {name: fit[name] for name in FIGURES}
        return cls(
            TypeAdapter(str).validate_python(plain["study"], strict=True),
            TypeAdapter(str).validate_python(plain["run"], strict=True),
            TypeAdapter(float).validate_python(plain["epsilon_spent"]),
            TypeAdapter(float).validate_python(plain["delta"]),
            TypeAdapter(bool).validate_python(plain["releasable"], strict=True),
            TypeAdapter(tuple[Wording, ...]).validate_python(plain["caveats"]),
            cards,
            tree,
            None if choice is None else Choice.from_dict(choice),
            None if fit is None else TypeAdapter(dict[str, Figure]).validate_python(figures),
        )

    def title(self, language: Language = "en") -> str:
        """Of what the result is, on one line."""
        return title(self.study, self.run, self.epsilon, self.delta, language)

    def text(self, language: Language = "en") -> str:
        """All of it, for a person."""
        parts = [card.text(language) for card in self.cards]
        if self.choice is not None:
            parts.append(_choice_text(self.choice, language))
        if self.fit is not None:
            parts.append(_fit_text(self.fit, language))
        parts.append(_tree_text(self.tree, [card.name for card in self.cards], language))
        if not self.releasable:
            told = [words.of(language) for words in self.caveats]
            parts.insert(0, "\n".join([NOT_RELEASABLE.of(language), *told]))
        parts.insert(0 if self.releasable else 1, self.title(language))
        return "\n\n".join(parts)


def title(study: str, run: str, epsilon: float, delta: float, language: Language) -> str:
    """Of what a result is, and what it cost, on one line."""
    words = {"en": ("Study", "run", "cost"), "tr": ("Çalışma", "çalıştırma", "maliyet")}
    study_word, run_word, cost = words[language]
    small = f"{delta:g}"
    small = small.replace(".", ",") if language == "tr" else small
    spent = f"ε = {naming.number(epsilon, language)}, δ = {small}"
    return f"{study_word} {study} · {run_word} {run[:8]} · {cost} {spent}"


def read(folder: Path) -> Telling:
    """What a result folder's segments.json tells.

    Raises:
        ResultError: there is none, or it is broken, or no file of this version of Kesit.
    """
    return read_with(folder / results.SEGMENTS, Telling.from_dict)


_SHOWN = ((results.SEGMENTS, "kesit segments show"), (MODEL, "kesit model show"))


def read_with(path: Path, build: Callable[[Mapping[str, Any]], T]) -> T:
    """A JSON file of a result, checked for numbers and texts that no result holds, and built.

    Raises:
        ResultError: see `read`.
    """
    try:
        data = path.read_bytes()
        plain = json.loads(data, parse_float=_finite, parse_int=_whole, parse_constant=_finite)
        _printable(plain)
        return build(plain)
    except OSError as error:
        other = next((show for name, show in _SHOWN if (path.parent / name).exists()), None)
        raise ResultError(
            f"{path}: cannot be read ({error.strerror}).",
            remedy=f"This result is another one: use `{other} {path.parent}`."
            if other
            else "Give the folder of a result, as `kesit simulate run` printed it.",
        ) from error
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OverflowError,
        ProtocolError,
    ) as error:
        raise ResultError(
            f"{path}: is broken, or was not written by this version of Kesit ({_short(error)}).",
            remedy="Give the folder of a result as it was written; or run the study again.",
        ) from error


def _printable(value: Any) -> None:
    """Refuse characters that would steer a terminal: a file may come from anyone."""
    if isinstance(value, str):
        if any(unicodedata.category(character) in _STEERING for character in value):
            raise ValueError("a text holds control characters")
    elif isinstance(value, dict):
        for name, part in value.items():
            _printable(name)
            _printable(part)
    elif isinstance(value, list):
        for part in value:
            _printable(part)


_STEERING = ("Cc", "Cf", "Zl", "Zp")


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) <= LARGEST:  # nor is "not a number"
        raise ValueError(f"{text[:30]} is no number of a result")
    return value


def _whole(text: str) -> int:
    return int(_finite(text))


def _short(error: Exception) -> str:
    """What is wrong, on one line."""
    text = f"without {error}" if isinstance(error, KeyError) else str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        text = f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(text.split())[:160]


def _choice_text(choice: Choice, language: Language) -> str:
    words = {
        "en": ("Choice of k", "silhouette", "weakest", "variance ratio", "stability", "score"),
        "tr": ("k seçimi", "siluet", "en zayıf", "varyans oranı", "kararlılık", "puan"),
    }[language]
    lines = [words[0], f"  {choice.sentence(language)}"]
    lines.append("    k" + "".join(f"{word:>15}" for word in words[1:]))
    for row in choice.curve:
        values = (row.silhouette, row.weakest, row.variance_ratio, row.stability, row.score)
        told = "".join(f"{naming.number(value, language):>15}" for value in values)
        lines.append(f"  {row.k:3}{told}{'  *' if row.k == choice.k else ''}")
    return "\n".join(lines)


def _fit_text(fit: Mapping[str, Figure], language: Language) -> str:
    title = Wording(
        "Fit (95% intervals of the noise; distances in public ranges of a feature)",
        "Uyum (gürültünün %95 aralıkları; uzaklıklar bir özelliğin herkesçe bilinen aralığına"
        " oranla)",
    )
    lines = [title.of(language)]
    for name, words in FIGURES.items():
        show = naming.count if name == "customers" else _precise
        figure = fit[name]
        low, high = (show(end, language) for end in figure.interval_95)
        value = show(figure.value, language)
        lines.append(f"  {words.of(language)}: {value} ({low} – {high})")
    return "\n".join(lines)


def _precise(value: float, language: Language) -> str:
    text = f"{value:.3f}"
    return text.replace(".", ",") if language == "tr" else text


def _tree_text(tree: Dendrogram, names: list[Wording], language: Language) -> str:
    """The dendrogram from its root, the costliest join first; a branch's parts are indented."""
    title = Wording(
        "Dendrogram (what joining costs: root mean squared distance)",
        "Dendrogram (birleştirmenin bedeli: karesel ortalama uzaklık)",
    )
    leaves = len(tree.sizes)
    lines, stack = [title.of(language)], [(leaves + len(tree.merges) - 1, 1)]
    while stack:
        branch, depth = stack.pop()
        if branch < leaves:
            size = naming.count(tree.sizes[branch], language)
            lines.append(f"{'  ' * depth}{branch + 1}. {names[branch].of(language)} ({size})")
            continue
        merge = tree.merges[branch - leaves]
        size = naming.count(merge.size, language)
        lines.append(f"{'  ' * depth}+ {_precise(merge.height, language)} ({size})")
        stack += [(merge.second, depth + 1), (merge.first, depth + 1)]
    return "\n".join(lines)
