"""What people read: aligned tables, and numbers in customers' own units."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from kesit_client.owner.preflight import Forecast
    from kesit_privacy.study import Study
    from kesit_server.portrait.cards import Card
    from kesit_server.portrait.portrait import Portrait
    from kesit_server.segmentation.segmenter import Segmentation

WIDTH = 100
"""Characters a line where no terminal says otherwise."""

LABEL = 11
GAP = 2


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup and no colours of its own."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal else WIDTH
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


class PlainTable(Table):
    """A table whose cells steer no terminal (`plain`)."""

    def add_row(self, *cells: Any, **more: Any) -> None:
        """Append a row."""
        kept = (plain(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*kept, **more)


def new_table(*headers: str, right: Sequence[int] = (), whole: Sequence[int] = ()) -> Table:
    """An empty table without lines.

    Columns of the places `right` are aligned to the right; cells of the places `whole` keep to one
    line, however narrow the terminal is.
    """
    table = PlainTable(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for place, header in enumerate(headers):
        side: Literal["left", "right"] = "right" if place in right else "left"
        table.add_column(header, justify=side, overflow="fold", no_wrap=place in whole)
    return table


def print_facts(out: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Labelled lines; a long text wraps beside its label, and no word is cut: it may be a path."""
    room = max(out.width - LABEL - GAP, LABEL)
    for label, text in facts:
        start = (f"{plain(label):<{LABEL}}{' ' * GAP}", "bold")
        for line in plain(text).splitlines() or [""]:
            wrapped = textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
            for part in wrapped or [""]:
                shown = Text.assemble(start, part)
                shown.rstrip()
                out.print(shown, soft_wrap=True)
                start = (" " * len(start[0]), "")


def put(out: Console, table: Table) -> None:
    """Print a table without the spaces that fill its lines."""
    with out.capture() as captured:
        out.print(table)
    lines = captured.get().splitlines()
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines))


def plain(text: str) -> str:
    """The text without characters that would steer a terminal: some of it comes from others."""
    return _STEERING.sub("\ufffd", text)


_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def print_forecasts(out: Console, forecasts: Sequence[Forecast]) -> None:
    """A row a budget: its cap, what is spent of it, and what would be after a whole run."""
    headers = ("budget", "cap (ε)", "spent so far (ε)", "after this study (ε)", "at δ")
    table = new_table(*headers, right=(1, 2, 3, 4))
    for item in forecasts:
        cap, spent, after = item.epsilons
        table.add_row(item.name, f"{cap:.3g}", f"{spent:.3g}", f"{after:.3g}", f"{item.delta:g}")
    out.print()
    put(out, table)
    out.print()


def print_segments(out: Console, portrait: Portrait) -> None:
    """One row a segment: size, its 95 % noise interval, and the centre; then names and stability.

    Features stand in order of how much they tell the segments apart; those that do not fit in the
    width are counted below. Segments that are too small to be released are named there, too.
    """
    cards = portrait.cards
    headers = ["segment", "customers", "95 %"]
    rows = [[str(card.segment), f"{card.size:,.0f}", _span(card.size_95)] for card in cards]
    room = out.width - sum(_width(headers, rows, place) for place in range(len(headers)))
    names = _most_telling(portrait.segments)
    for name in names:
        cells = [_cell(card.centre[name]) for card in cards]
        width = max(len(name), *(len(cell) for cell in cells)) + GAP
        if width > room and len(headers) > 3:
            break
        room -= width
        headers.append(name)
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    table = new_table(*headers, right=range(len(headers)))
    for row in rows:
        table.add_row(*row)
    put(out, table)
    left = len(names) - (len(headers) - 3)
    if left:
        out.print(f"not shown: {left} of {len(names)} features, the least telling (segments.json)")
    out.print("the interval is that of the noise alone; a centre is typical, not an average\n")
    _print_names(out, cards)
    _print_doubts(out, portrait)


def _print_names(out: Console, cards: Sequence[Card]) -> None:
    table = new_table("segment", "what sets it apart", "when the noise is drawn again", right=(0,))
    for card in cards:
        stable = f"{card.stability.en} ({card.jaccard:.2f})"
        table.add_row(str(card.segment), card.name.en, stable)
    put(out, table)


def _print_doubts(out: Console, portrait: Portrait) -> None:
    choice, fit = portrait.segments.choice, portrait.segments.assessment
    if choice is not None:
        out.print(choice.words)
    if fit is None:
        out.print("Sizes were counted before the last step: nothing was left for an evaluation.")
    unsure = [str(card.segment) for card in portrait.cards if card.uncertain]
    if unsure:
        out.print(f"Not told from noise, so perhaps no segments at all: {', '.join(unsure)}")
    small = [str(card.segment) for card in portrait.cards if card.too_small]
    if small:
        least = portrait.segments.study.thresholds.min_segment_size
        out.print(f"Too small by the study's min_segment_size of {least}: {', '.join(small)}")


def _span(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:,.0f} .. {high:,.0f}"


def _width(headers: list[str], rows: list[list[str]], place: int) -> int:
    return max(len(headers[place]), *(len(row[place]) for row in rows)) + GAP


def _most_telling(segments: Segmentation) -> list[str]:
    """Features by the variance of the segments' centres, in units of their public ranges."""
    import numpy as np

    weights = np.maximum(segments.sizes, 1)
    mean = np.average(segments.centres, axis=0, weights=weights)
    spread = np.average((segments.centres - mean) ** 2, axis=0, weights=weights)
    by_feature = np.add.reduceat(spread, segments.space.offsets[:-1])
    order = np.argsort(-by_feature, kind="stable")
    return [segments.space.features[place].name for place in order]


def _cell(value: object) -> str:
    """A centre's value: a number, or the most frequent level and its share."""
    if isinstance(value, dict):
        level = max(value, key=lambda name: value[name], default=None)
        return "-" if level is None else f"{level} {value[level]:.0%}"
    return number(float(str(value)))


def task(study: Study) -> str:
    """What the study is after, in a few words."""
    if study.classification is not None and not study.classification.trains:
        return f"evaluation of a released model of {study.target}"
    if study.classification is not None:
        return f"{study.classification.estimator} model of {study.target}"
    return number_of_segments(study)


def number_of_segments(study: Study) -> str:
    """k as the study has it: fixed, or a range to choose from."""
    smallest, k = study.segmenting.smallest_k, study.segmenting.k
    return f"k = {k}" if smallest is None else f"k = {smallest} .. {k} (chosen on the synopsis)"


def number(value: float) -> str:
    """A number with as many digits as a person wants to read."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _share(row: dict[str, Any]) -> str:
    """A sum's share of the budget; a training's is of a pot of its own."""
    return f"{row['share_of_mu2']:.0%}" if row["share_of_mu2"] else f"(ε = {row['epsilon_alone']})"


def privacy_text(statement: dict[str, Any]) -> str:
    """The privacy statement in a few sentences, what limits it first."""
    sums = ", ".join(
        f"{row['step']} {_share(row)}" + ("" if row["opened"] else " (not opened)")
        for row in statement["sums"]
    )
    caveats = [caveat["en"] for caveat in statement["caveats"]]
    spent = "It spent" if statement["releasable"] else "A real run would have spent"
    if not statement["promise_kept"]:
        return "\n".join(caveats)
    return "\n".join(
        [
            *caveats,
            f"{spent} ε = {statement['epsilon_spent']:g} at δ = {statement['delta']:g} of the"
            f" agreed ε = {statement['epsilon_agreed']:g}, for one customer added or removed, in"
            f" these sums alone: {sums}.",
            *([statement["apart"]["en"]] if statement["apart"] else []),
            f"It holds against the server together with any {statement['max_colluders']} of the"
            f" {statement['members']} members.",
        ]
    )
