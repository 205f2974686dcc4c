"""What all pictures share: colours, a figure without a display, local numbers, safe texts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kesit_server.errors import ServerError
from kesit_server.reading import Heading
from kesit_server.wording import NOT_RELEASABLE, Language

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#999999", "#000000"
"""Told apart by colour-blind readers too (Okabe and Ito)."""

DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that needs no display.

    Raises:
        ServerError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ServerError(
            "Pictures need matplotlib, which is not installed.",
            remedy="Install it with: pip install 'kesit[report]'.",
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def local_ticks(axes: Axes, language: Language, *, x: bool = True) -> None:
    """Decimal commas on the axis of numbers, in Turkish."""
    if language == "tr":
        axis = axes.xaxis if x else axes.yaxis
        axis.set_major_formatter(lambda value, _: f"{value:g}".replace(".", ",").replace("-", "−"))


def wrapped(text: str, width: int) -> str:
    """At most three lines, without formulas."""
    import textwrap

    return "\n".join(textwrap.wrap(_plain(text), width)[:3])


def short(text: str, most: int) -> str:
    """At most so many characters, without formulas."""
    return _plain(text if len(text) <= most else text[: most - 1] + "…")


def _plain(text: str) -> str:
    """For Matplotlib, which would read formulas between dollars."""
    return text.replace("$", r"\$")


def files(figures: Mapping[str, Figure], heading: Heading, language: Language) -> dict[str, bytes]:
    """PNG files by name, each headed with its result, and whether that may be released."""
    for figure in figures.values():
        title, colour = wrapped(heading.title(language), 84), GREY
        if not heading.releasable:
            title, colour = f"{NOT_RELEASABLE.of(language)}\n{title}", ORANGE
        figure.suptitle(title, fontsize=8, weight="bold", color=colour)
    return {f"{name}-{language}.png": png(figure) for name, figure in figures.items()}


def png(figure: Figure) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()
