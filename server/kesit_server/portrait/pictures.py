"""Pictures of a segmentation: all cards, the curve that chose k, the dendrogram.

Colours are those of Okabe and Ito (2008, Color universal design), which colour-blind people can
tell apart; signs and words say the same as the colours. Needs matplotlib (`kesit[report]`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kesit_server import drawing, wording
from kesit_server.drawing import BLACK, BLUE, GREEN, GREY, ORANGE
from kesit_server.portrait.cards import Card
from kesit_server.portrait.hierarchy import Dendrogram
from kesit_server.portrait.telling import Telling
from kesit_server.portrait.traits import STRONG_EFFECT, Trait
from kesit_server.segmentation.choice import Choice
from kesit_server.wording import Language, Wording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 5
"""Features in a panel."""

WIDEST_EFFECT = 3.0
"""Standard deviations at the ends of a panel's axis; a longer bar is cut there, with its value."""

_WORDS = {
    "customers": Wording("customers (thousands)", "müşteri (bin)"),
    "few": Wording("customers", "müşteri"),
    "apart": Wording(
        "standard deviations from all customers", "tüm müşterilerden sapma (standart sapma)"
    ),
    "noise": Wording(
        "pale bars: not told from the noise, or under 0.5 standard deviations;"
        " lines: 95% interval of the noise",
        "soluk çubuklar: gürültüden ayırt edilemez ya da 0,5 standart sapmanın altında;"
        " çizgiler: gürültünün %95 aralığı",
    ),
    "k": Wording("number of segments k", "segment sayısı k"),
    "bars": Wording(
        "bars: standard deviation over redrawn noise",
        "çubuklar: yenilenen gürültüde standart sapma",
    ),
    "silhouette": Wording("silhouette", "siluet"),
    "weakest": Wording("silhouette of the weakest segment", "en zayıf segmentin silueti"),
    "stability": Wording("stability (adjusted Rand)", "kararlılık (düzeltilmiş Rand)"),
    "score": Wording("score over the best one (decides)", "puan / en iyi puan (belirleyici)"),
    "points": Wording("silhouette, adjusted Rand and score", "siluet, düzeltilmiş Rand ve puan"),
    "redraws": Wording("same choice under redrawn noise", "yenilenen gürültüyle aynı seçim"),
    "leaves": Wording("segment (customers)", "segment (müşteri)"),
    "height": Wording(
        "cost of joining (root mean squared distance, share of a feature's range)",
        "birleştirmenin bedeli (karesel ortalama uzaklık, bir özelliğin aralığına oranla)",
    ),
}


def pictures(telling: Telling, language: Language = "en") -> dict[str, bytes]:
    """All pictures of a result, as PNG files by name; `choice` only if k was chosen.

    Each says of what it is, and that it may not be released where that is so.

    Raises:
        ServerError: matplotlib is not installed.
    """
    figures = {"cards": cards_picture(telling.cards, language)}
    if telling.choice is not None:
        figures["choice"] = choice_picture(telling.choice, language)
    names = [card.name for card in telling.cards]
    figures["dendrogram"] = dendrogram_picture(telling.tree, names, language)
    return drawing.files(figures, telling.heading, language)


def cards_picture(cards: Sequence[Card], language: Language = "en") -> Figure:
    """All cards: a panel each, with size, the most telling features and stability."""
    columns = min(len(cards), 3)
    rows = math.ceil(len(cards) / columns)
    figure = drawing.new_figure(4.6 * columns, 3.1 * rows + 0.5)
    shown = _common_features(cards)
    grid = figure.subfigures(rows, columns, squeeze=False)
    largest = max(card.size_95[1] for card in cards)
    for place, cell in enumerate(grid.flat):
        if place < len(cards):
            _card(cell, cards[place], shown[place], largest, language)
    figure.supxlabel(_WORDS["noise"].of(language), fontsize=8, color="#555555")
    return figure


def _common_features(cards: Sequence[Card]) -> list[list[Trait]]:
    """The traits that a panel shows: the largest effects, one a feature, the clear ones first."""
    found = []
    for card in cards:
        clear = card.told
        named = {trait.feature for trait in clear}
        rest: dict[str, Trait] = {}
        for trait in card.traits:
            if trait.feature not in named:
                rest.setdefault(trait.feature, trait)
        found.append([*clear, *rest.values()][:MOST_BARS])
    return found


def _card(cell: Any, card: Card, traits: list[Trait], largest: float, language: Language) -> None:
    """One panel: a size bar above, deviation bars below."""
    size, bars = cell.subplots(2, 1, height_ratios=[1, max(len(traits), 2) * 1.1])
    thousands = largest >= 10_000
    unit = 1000 if thousands else 1
    low, high = (end / unit for end in card.size_95)
    middle = card.size / unit
    size.barh([0], [middle], color=GREY if card.uncertain else GREEN, height=0.7)
    size.errorbar([middle], [0], xerr=[[middle - low], [high - middle]], color=BLACK, capsize=3)
    size.set_xlim(0, largest / unit * 1.05)
    size.set_yticks([])
    size.set_xlabel(
        _WORDS["customers" if thousands else "few"].of(language), fontsize=7, labelpad=1
    )
    size.tick_params(labelsize=7)
    drawing.local_ticks(size, language)
    ends = " – ".join(wording.percent(end, language) for end in card.share_95)
    share = wording.percent(card.share, language)
    stability = f"{card.stability.of(language)} (Jaccard {wording.number(card.jaccard, language)})"
    cell.suptitle(
        drawing.wrapped(f"{card.segment}. {card.name.of(language)}", 44), fontsize=9, weight="bold"
    )
    size.set_title(f"{share} ({ends}) · {stability}", fontsize=8, loc="left")
    _deviations(bars, card, traits, language)


def _deviations(axes: Axes, card: Card, traits: list[Trait], language: Language) -> None:
    for place, trait in enumerate(traits):
        shown = max(-WIDEST_EFFECT, min(WIDEST_EFFECT, trait.effect))
        told = trait.clear and not card.uncertain
        axes.barh(
            [place],
            [shown],
            color=ORANGE if trait.effect > 0 else BLUE,
            alpha=1.0 if told else 0.3,
            height=0.65,
        )
        if shown == trait.effect:
            axes.errorbar(
                [shown], [place], xerr=[1.96 * trait.noise], color=BLACK, capsize=2, lw=0.8
            )
        else:
            sign = "−" if trait.effect < 0 else "+"
            text = sign + wording.number(abs(trait.effect), language)
            inside = -0.1 if trait.effect > 0 else 0.1
            side = "right" if trait.effect > 0 else "left"
            axes.text(shown + inside, place, text, ha=side, va="center", fontsize=7, color="white")
    axes.axvline(0, color=BLACK, lw=0.8)
    axes.set_xlim(-WIDEST_EFFECT, WIDEST_EFFECT)
    axes.set_ylim(len(traits) - 0.5, -0.5)
    axes.set_yticks(
        range(len(traits)), [_label(trait, card, language) for trait in traits], fontsize=7
    )
    axes.set_xticks([-3, -STRONG_EFFECT, 0, STRONG_EFFECT, 3])
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel(_WORDS["apart"].of(language), fontsize=7, labelpad=1)
    drawing.local_ticks(axes, language)


def _label(trait: Trait, card: Card, language: Language) -> str:
    """A feature and the segment's value: a number in its own unit, or a level's share."""
    name = drawing.short(card.vocabulary.feature(trait.feature, language), 22)
    if trait.level is None:
        return f"{name}\n{wording.number(trait.value, language)}"
    return f"{name}\n{drawing.short(trait.level, 14)} {wording.percent(trait.value, language)}"


def choice_picture(choice: Choice, language: Language = "en") -> Figure:
    """The curve that chose k: silhouettes and stability with their spread over redraws, score."""
    figure = drawing.new_figure(7.2, 4.4)
    axes = figure.subplots()
    ks = [row.k for row in choice.curve]
    best = max(row.score for row in choice.curve) or 1.0
    series = (
        ("silhouette", BLUE, "o", "-", [(r.silhouette, r.silhouette_sd) for r in choice.curve]),
        ("weakest", GREEN, "v", ":", [(r.weakest, r.weakest_sd) for r in choice.curve]),
        ("stability", ORANGE, "s", "--", [(r.stability, r.stability_sd) for r in choice.curve]),
        ("score", BLACK, "D", "-.", [(r.score / best, 0.0) for r in choice.curve]),
    )
    for place, (key, colour, marker, line, values) in enumerate(series):
        axes.errorbar(
            [k + (place - 1.5) * 0.06 for k in ks],
            [value for value, _ in values],
            yerr=None if key == "score" else [spread for _, spread in values],
            color=colour,
            marker=marker,
            linestyle=line,
            capsize=2,
            markersize=5,
            lw=1.2,
            label=_WORDS[key].of(language),
        )
    axes.axvline(choice.k, color=GREY, lw=6, alpha=0.35, zorder=0)
    axes.set_xticks(ks)
    axes.set_xlabel(f"{_WORDS['k'].of(language)} ({_WORDS['bars'].of(language)})")
    axes.set_ylabel(_WORDS["points"].of(language))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    drawing.local_ticks(axes, language, x=False)
    title = f"k = {choice.k}"
    if choice.runner_up is not None:
        share = wording.percent(choice.confidence, language, digits=0)
        title += f" · {_WORDS['redraws'].of(language)}: {share}"
    axes.set_title(title, fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    return figure


def dendrogram_picture(
    tree: Dendrogram, names: Sequence[Wording], language: Language = "en"
) -> Figure:
    """Ward's tree of the segments, leaves named and sized; joins far to the left cost much.

    Args:
        names: of the segments in the tree's order.
    """
    from scipy.cluster.hierarchy import dendrogram

    figure = drawing.new_figure(8.2, 0.42 * len(names) + 1.6)
    axes = figure.subplots()
    labels = [
        drawing.wrapped(f"{place + 1}. {name.of(language)} ({wording.count(size, language)})", 46)
        for place, (name, size) in enumerate(zip(names, tree.sizes, strict=True))
    ]
    if tree.merges:
        dendrogram(
            tree.linkage(),
            ax=axes,
            orientation="left",
            labels=labels,
            color_threshold=0,
            above_threshold_color=BLUE,
            leaf_font_size=8,
        )
    else:
        axes.set_yticks([0], labels, fontsize=8)
    axes.yaxis.tick_right()
    axes.set_title(_WORDS["leaves"].of(language), fontsize=8, loc="right")
    axes.set_xlabel(_WORDS["height"].of(language), fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "top", "right"):
        axes.spines[side].set_visible(False)
    drawing.local_ticks(axes, language)
    return figure
