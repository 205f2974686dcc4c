"""Pictures of a model: the shape of each feature with its band, and what the model goes by.

Needs matplotlib (`kesit[report]`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kesit_privacy.features import Numeric
from kesit_server import drawing
from kesit_server.classification.telling.model_telling import PER_LOGIT, ModelTelling
from kesit_server.drawing import BLUE, GREEN, GREY, ORANGE
from kesit_server.wording import Language, Wording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SHAPES = 12
MOST_LEVELS = 10
MOST_BARS = 30
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

_WORDS = {
    "points": Wording("points{of} (20 double the odds)", "puan{of} (20 puan oranı ikiye katlar)"),
    "bands": Wording("bands: ± 2 standard deviations", "bantlar: ± 2 standart sapma"),
    "cut": Wording(
        "of each feature alone, all others as usual",
        "ötekiler olağanken özelliğin tek başına etkisi",
    ),
    "counted": Wording("grey: customers", "gri: müşteriler"),
    "drawn": Wording(
        "grey: customers, drawn from their mean and variance",
        "gri: müşteriler, ortalama ve varyanslarından çizildi",
    ),
    "more": Wording(
        "not shown: {n} features that tell less", "gösterilmeyen: daha az şey söyleyen {n} özellik"
    ),
    "importance": Wording(
        "standard deviation of points over customers",
        "puanların müşteriler arasındaki standart sapması",
    ),
}


def model_pictures(told: ModelTelling, language: Language = "en") -> dict[str, bytes]:
    """`shapes` and `importances`, as PNG files by name.

    Raises:
        ServerError: matplotlib is not installed.
    """
    figures = {
        "shapes": shapes_picture(told, language),
        "importances": importances_picture(told, language),
    }
    return drawing.files(figures, told.heading, language)


def shapes_picture(told: ModelTelling, language: Language = "en") -> Figure:
    """A panel for each of the most important features."""
    shown = told.used[:MOST_SHAPES]
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    figure = drawing.new_figure(4.2 * columns, 2.7 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, place in zip(grid.flat, shown, strict=False):
        if isinstance(told.model.features[place], Numeric):
            _number(axes, told, place, language)
        else:
            _levels(axes, told, place, language)
        name = told.vocabulary.feature(told.model.features[place].name, language)
        axes.set_title(drawing.short(name, 40), fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    if len(told.model.classes) > 2:
        handles, names = grid.flat[0].get_legend_handles_labels()
        texts = [drawing.short(name, 28) for name in names]
        figure.legend(handles, texts, loc="outside right upper", fontsize=7)
    caption = drawing.wrapped(_caption(told, len(shown), language), 60 * columns)
    figure.supxlabel(caption, fontsize=8, color="#555555")
    return figure


def _caption(told: ModelTelling, shown: int, language: Language) -> str:
    """How to read the shapes."""
    of = "" if told.second is None else f": {told.second}"
    parts = [_WORDS["points"].of(language).replace("{of}", of)]
    parts.append(_WORDS["bands" if told.spreads else "cut"].of(language))
    parts.append(_WORDS["drawn" if told.estimator == "logistic" else "counted"].of(language))
    if len(told.used) > shown:
        left = str(len(told.used) - shown)
        parts.append(_WORDS["more"].of(language).replace("{n}", left))
    return "; ".join(parts)


def importances_picture(told: ModelTelling, language: Language = "en") -> Figure:
    """A bar for each feature, the most important at the top."""
    shown = told.used[:MOST_BARS]
    names = [told.model.features[place].name for place in shown]
    figure = drawing.new_figure(6.4, 0.28 * len(shown) + 1.4)
    axes = figure.subplots()
    values = [told.importances[name] * PER_LOGIT for name in names]
    axes.barh(range(len(shown)), values, color=GREEN, height=0.7)
    texts = [drawing.short(told.vocabulary.feature(name, language), 34) for name in names]
    axes.set_yticks(range(len(shown)), texts, fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(_WORDS["importance"].of(language), fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    drawing.local_ticks(axes, language)
    return figure


def _number(axes: Axes, told: ModelTelling, place: int, language: Language) -> None:
    """Steps of a number's shape over its cells, on the scale on which cells are even."""
    feature = told.model.features[place]
    assert isinstance(feature, Numeric)
    rows = [row for row in told.rows(place, language, most=1 << 30) if row.ends is not None]
    edges = np.arange(len(rows) + 1)
    _crowd(axes, edges, np.array([row.customers for row in rows]))
    for logit in range(told.model.model.logits):
        points = np.array([row.points[logit] for row in rows])
        spread = 2 * np.array([row.spread[logit] for row in rows])
        colour = COLOURS[logit % len(COLOURS)]
        axes.stairs(points, edges, color=colour, lw=1.4, label=_class(told, logit), baseline=None)
        low, high = np.repeat(points - spread, 2), np.repeat(points + spread, 2)
        axes.fill_between(np.repeat(edges, 2)[1:-1], low, high, color=colour, alpha=0.2, lw=0)
    ticks = np.unique(np.linspace(0, len(rows), min(len(rows), 5) + 1).round()).astype(int)
    lower = [row.ends[0] for row in rows if row.ends is not None] + [feature.upper]
    axes.set_xticks(ticks, [short_number(lower[tick], language) for tick in ticks])
    axes.axhline(0, color=GREY, lw=0.6)
    drawing.local_ticks(axes, language, x=False)


def _levels(axes: Axes, told: ModelTelling, place: int, language: Language) -> None:
    """Points of the levels that most customers have."""
    rows = sorted(told.rows(place, language), key=lambda row: -row.customers)[:MOST_LEVELS]
    heights, logits = np.arange(len(rows)), told.model.model.logits
    for logit in range(logits):
        axes.errorbar(
            [row.points[logit] for row in rows],
            heights + 0.6 * ((logit + 0.5) / logits - 0.5),  # side by side, not one on another
            xerr=[2 * row.spread[logit] for row in rows],
            fmt="o",
            markersize=4 if logits == 1 else 3,
            capsize=2,
            lw=0.9,
            color=COLOURS[logit % len(COLOURS)],
            label=_class(told, logit),
        )
    texts = [drawing.short(row.label.of(language), 28) for row in rows]
    axes.set_yticks(heights, texts)
    axes.invert_yaxis()
    axes.axvline(0, color=GREY, lw=0.6)
    axes.grid(axis="x", alpha=0.3)
    drawing.local_ticks(axes, language)


def _crowd(axes: Axes, edges: np.ndarray, customers: np.ndarray) -> None:
    """Where the customers are, behind the shape."""
    behind = axes.twinx()
    behind.stairs(customers, edges, fill=True, color=GREY, alpha=0.25, lw=0)
    behind.set_ylim(0, max(float(customers.max()), 1.0) * 2.5)
    behind.set_yticks([])
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def _class(told: ModelTelling, logit: int) -> str:
    kinds = told.model.classes
    return kinds[1] if len(kinds) == 2 else kinds[logit]


def short_number(value: float, language: Language) -> str:
    """Three digits, with k and M for thousands and millions (B, M in Turkish: bin, milyon)."""
    thousand, million = ("B", "M") if language == "tr" else ("k", "M")
    value = float(f"{value:.3g}")  # what is nearly a million is one
    for size, letter in ((1e6, million), (1e3, thousand)):
        if abs(value) >= size:
            text = f"{value / size:.3g}{letter}"
            break
    else:
        text = f"{value:.3g}"
    text = text.replace("-", "−")
    return text.replace(".", ",") if language == "tr" else text
