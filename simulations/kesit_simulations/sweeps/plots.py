"""Draw a sweep's figures with matplotlib, as PNG and SVG, for screens, paper and colour-blind eyes.

Colours are those of Okabe and Ito (2008); markers and line styles tell curves apart without them.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from kesit_simulations.baselines import BASELINES
from kesit_simulations.errors import SimulationError
from kesit_simulations.sweeps.figures import Chart, Curve, Panel
from kesit_simulations.sweeps.spec import KESIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Final = ("png", "svg")
DPI: Final = 150

ONE_PANEL, PANEL = (6.4, 3.6), (4.4, 3.3)
"""Inches, of a panel that stands alone and of one among others."""

LETTERS_AN_INCH: Final = 12
LINE: Final = 0.21
"""Inches, of a line of text."""

MOST_COLUMNS: Final = 3
LOG_FROM: Final = 3.0
"""Quotient of the largest and the smallest y above which y is logarithmic."""

_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY, _BLACK = _OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
_MARKERS: Final = "osD^vPX"
_DASHES: Final = ("-", "--", "-.", ":")

_METHODS: Final[dict[str, tuple[str, str, Any]]] = {
    KESIT: (_BLUE, "o", "-"),
    "central": (_BLACK, "x", ":"),
    "federated-exact": (_BLACK, "P", (0, (1, 3))),
    "alone": (_PURPLE, "^", "--"),
    "alone-private": (_ORANGE, "v", "-."),
    "diffprivlib": (_SKY, "X", (0, (5, 1, 1, 1, 1, 1))),
    "dplloyd": (_VERMILION, "s", "--"),
    "eugkm": (_VERMILION, "D", ":"),
    "fastlloyd": (_GREEN, "*", ":"),
    "fastlloyd-members": (_GREEN, "h", "-."),
}
"""Colour, marker, dashes. Methods of one family share a colour and differ in the rest."""

_REFERENCE_STYLE: Final[dict[str, Any]] = {
    "label": "k-means without privacy, all rows in one place",
    "color": "#777777",
    "linewidth": 1,
    "zorder": 1,
}

_STYLE: Final[Any] = {  # matplotlib types its keys one by one
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # a name may hold a dollar
    "svg.hashsalt": "kesit",  # the same table, the same bytes
}


def draw(chart: Chart) -> dict[str, bytes]:
    """A chart's files by name: `<name>.png` and `<name>.svg`.

    Raises:
        SimulationError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise SimulationError(
            "Figures need matplotlib, which is not installed.",
            remedy="pip install 'kesit[report]'",
        ) from error
    files = {}
    with matplotlib.rc_context(_STYLE):
        figure = _figure(chart)
        for kind in FORMATS:
            buffer = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata, bbox_inches="tight")
            files[f"{chart.name}.{kind}"] = buffer.getvalue()
    return files


def _figure(chart: Chart) -> Figure:
    from matplotlib.figure import Figure  # not pyplot, which has a state and looks for a screen

    columns = min(math.ceil(math.sqrt(len(chart.panels))), MOST_COLUMNS)
    lines = math.ceil(len(chart.panels) / columns)
    width, height = ONE_PANEL if len(chart.panels) == 1 else PANEL
    labels = list(
        dict.fromkeys(c.label for panel in chart.panels for c in (*panel.curves, *panel.levels))
    )
    styles = {label: _style(label, place) for place, label in enumerate(labels)}
    beside = 2 if columns < MOST_COLUMNS else 3  # entries of the legend
    text = LINE * (4 + math.ceil((len(labels) + 1) / beside))
    figure = Figure(figsize=(width * columns, height * lines + text), layout="constrained")
    cells = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, panel in zip(cells, chart.panels, strict=False):
        _draw_panel(axes, panel, styles, round(width * LETTERS_AN_INCH))
        axes.set_xlabel(chart.x_label)
    for axes in cells[len(chart.panels) :]:
        axes.set_visible(False)
    figure.suptitle(chart.title, fontsize=11, fontweight="bold")
    _add_legend(figure, cells[: len(chart.panels)], beside, chart.note)
    return figure


def _draw_panel(axes: Axes, panel: Panel, styles: dict[str, dict[str, Any]], letters: int) -> None:
    lines = [textwrap.fill(line, letters) for line in panel.title.splitlines()]
    axes.set_title("\n".join(lines), loc="left")
    axes.set_ylabel(panel.y_label)
    if panel.reference is not None:
        axes.axhline(panel.reference, **_REFERENCE_STYLE)
    for place, curve in enumerate(panel.curves):
        if panel.ticks:
            shift = (place + 0.5) / len(panel.curves) - 0.5
            _draw_points(axes, curve, styles[curve.label], 0.7 * shift)
        else:
            _draw_band(axes, curve, styles[curve.label])
    for level in panel.levels:
        style = {**styles[level.label], "marker": "none"}
        axes.axhline(level.median[0], **style)
        axes.axhspan(level.low[0], level.high[0], color=style["color"], alpha=0.12, linewidth=0)
    _scale_x(axes, panel)
    _scale_y(axes, panel)


def _draw_band(axes: Axes, curve: Curve, style: dict[str, Any]) -> None:
    axes.fill_between(curve.x, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(curve.x, curve.median, **style)


def _draw_points(axes: Axes, curve: Curve, style: dict[str, Any], shift: float) -> None:
    """Points with error bars side by side: between two ways to divide rows there is no third."""
    x = [value + shift for value in curve.x]
    below = [m - low for m, low in zip(curve.median, curve.low, strict=True)]
    above = [high - m for m, high in zip(curve.median, curve.high, strict=True)]
    axes.errorbar(x, curve.median, (below, above), capsize=2.5, **{**style, "linestyle": "none"})


def _scale_x(axes: Axes, panel: Panel) -> None:
    if panel.ticks:
        axes.set_xticks(range(len(panel.ticks)), [t.replace(" α", "\nα") for t in panel.ticks])
        axes.set_xlim(-0.6, len(panel.ticks) - 0.4)
        axes.grid(visible=False, axis="x")
        return
    values = sorted({value for curve in panel.curves for value in curve.x})
    axes.set_xscale("log")
    shown = _spaced(values)
    axes.set_xticks(shown, [f"{value:,g}" for value in shown])
    axes.set_xticks([], minor=True)


def _spaced(values: Sequence[float]) -> list[float]:
    """The values that were run, less those whose labels would touch on a logarithmic axis."""
    room = (math.log(values[-1]) - math.log(values[0])) / 9
    shown: list[float] = []
    for value in values:
        if not shown or math.log(value) - math.log(shown[-1]) >= room:
            shown.append(value)
    return shown


def _scale_y(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    curves = (*panel.curves, *panel.levels)
    highest = max(value for curve in curves for value in curve.high)
    lowest = min(value for curve in curves for value in curve.low)
    if panel.reference is None:
        axes.set_ylim(0, 1.15 * highest)
    elif highest / min(lowest, panel.reference) >= LOG_FROM:
        axes.set_yscale("log")
        wide = highest / min(lowest, panel.reference) > 10
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(f"{panel.y_label} (log scale)")


def _add_legend(figure: Figure, cells: Sequence[Axes], beside: int, note: str) -> None:
    """One legend for all panels, under them, with what a reader must know above it."""
    found: dict[str, Any] = {}
    for axes in cells:
        handles, labels = axes.get_legend_handles_labels()
        found.update({label: handle for handle, label in zip(handles, labels, strict=True)})
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=min(len(found), beside),
        title=note,
        title_fontsize=8.5,
        frameon=False,
        handlelength=3.2,
    )


def _style(label: str, place: int) -> dict[str, Any]:
    """A method's looks, the same in every figure; those of other labels by their place."""
    color, marker, dashes = _METHODS.get(label) or (
        _OKABE_ITO[place % len(_OKABE_ITO)],
        _MARKERS[place % len(_MARKERS)],
        _DASHES[place % len(_DASHES)],
    )
    title = BASELINES[label].title if label in BASELINES else label
    return {
        "label": "Kesit" if label == KESIT else title,
        "color": color,
        "marker": marker,
        "linestyle": dashes,
        "linewidth": 2.2 if label == KESIT else 1.4,
        "markersize": 8 if marker == "*" else 5,
        "zorder": 4 if label == KESIT else 3,
    }
