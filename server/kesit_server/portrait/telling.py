"""What a result folder tells people: segments.json read back, and its text in two languages.

Nothing else of the folder is needed, neither the synopsis nor the study, so a result can be shown
and drawn anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kesit_privacy.segment_file import SEGMENTS
from kesit_server import reading, wording
from kesit_server.portrait.cards import Card
from kesit_server.portrait.hierarchy import Dendrogram
from kesit_server.reading import Heading
from kesit_server.segmentation.assessment import Figure
from kesit_server.segmentation.choice import Choice
from kesit_server.wording import Language, Vocabulary, Wording

FORMAT = 2
"""Of segments.json; it changes when a program that reads an older one must change."""

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
        fit: figures of the evaluation; None if there was none.
    """

    heading: Heading
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
            Heading.from_dict(plain),
            cards,
            tree,
            None if choice is None else Choice.from_dict(choice),
            None if fit is None else TypeAdapter(dict[str, Figure]).validate_python(figures),
        )

    def text(self, language: Language = "en") -> str:
        """All of it, for a person."""
        parts = [card.text(language) for card in self.cards]
        if self.choice is not None:
            parts.append(_choice_text(self.choice, language))
        if self.fit is not None:
            parts.append(_fit_text(self.fit, language))
        parts.append(_tree_text(self.tree, [card.name for card in self.cards], language))
        return self.heading.over(parts, language)


def read(folder: Path) -> Telling:
    """What a result folder's segments.json tells.

    Raises:
        ResultError: there is none, or it is broken, or no file of this version of Kesit.
    """
    return reading.read_with(folder / SEGMENTS, Telling.from_dict)


def _choice_text(choice: Choice, language: Language) -> str:
    words = {
        "en": ("Choice of k", "silhouette", "weakest", "variance ratio", "stability", "score"),
        "tr": ("k seçimi", "siluet", "en zayıf", "varyans oranı", "kararlılık", "puan"),
    }[language]
    lines = [words[0], f"  {choice.sentence(language)}"]
    lines.append("    k" + "".join(f"{word:>15}" for word in words[1:]))
    for row in choice.curve:
        values = (row.silhouette, row.weakest, row.variance_ratio, row.stability, row.score)
        told = "".join(f"{wording.number(value, language):>15}" for value in values)
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
        show = wording.count if name == "customers" else _precise
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
            size = wording.count(tree.sizes[branch], language)
            lines.append(f"{'  ' * depth}{branch + 1}. {names[branch].of(language)} ({size})")
            continue
        merge = tree.merges[branch - leaves]
        size = wording.count(merge.size, language)
        lines.append(f"{'  ' * depth}+ {_precise(merge.height, language)} ({size})")
        stack += [(merge.second, depth + 1), (merge.first, depth + 1)]
    return "\n".join(lines)
