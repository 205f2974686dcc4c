"""What a sweep's table can show: which figures, panels, curves and bands. Nothing here draws.

A figure varies one thing and holds the others at one value each, which its panel's title names:
ε at 1 if the sweep has it, otherwise at the middle of its values; the rest at the first value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from kesit_simulations.sweeps.spec import KESIT

LOW, HIGH = 0.1, 0.9
"""The band: quantiles over the seeds."""

_PANEL: Final = ("study", "k")
_DIVISION: Final = ("partition", "alpha", "clients", "silence")

DIVISION_NAMES: Final = {
    "iid": "iid",
    "dirichlet": "label skew",
    "quantity": "size skew",
    "column": "by column",
}


@dataclass(frozen=True)
class Curve:
    """Medians with bands: x, median, low and high have one length. One point without x is a level.

    `label` is a method, or in figures of cost a study.
    """

    label: str
    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Axes with their curves. `ticks` names the places 0, 1, ... on x, if x is no number."""

    title: str
    y_label: str
    curves: tuple[Curve, ...]
    levels: tuple[Curve, ...] = ()
    ticks: tuple[str, ...] = ()
    reference: float | None = None


@dataclass(frozen=True)
class Chart:
    """One figure: a file name, a title, what x is, panels, and what a reader must know."""

    name: str
    title: str
    x_label: str
    panels: tuple[Panel, ...]
    note: str = ""


RATIO: Final = "inertia ÷ inertia without privacy"


def charts(table: pl.DataFrame) -> tuple[Chart, ...]:
    """The figures for which the sweep varies something."""
    good = table.filter(pl.col("error").is_null())
    found = [_utility(good), _skew(good), _clients(good), _cost(good)]
    failed = len(table) - len(good)
    note = _spread(table)
    if failed:
        note += f" {failed:,} of {len(table):,} cells failed and are left out."
    return tuple(replace(chart, note=note) for chart in found if chart is not None)


def _utility(good: pl.DataFrame) -> Chart | None:
    rows = _held(good.filter(pl.col("ratio").is_not_null()), _DIVISION)
    if rows["epsilon"].drop_nulls().n_unique() < 2:
        return None
    panels = tuple(
        Panel(
            _title(part, ("clients", "partition")),
            RATIO,
            _curves(part.filter(pl.col("epsilon").is_not_null()), "method", "epsilon", "ratio"),
            _levels(part.filter(pl.col("epsilon").is_null())),
            reference=1.0,
        )
        for part in _parts(rows)
        if part["epsilon"].count() > 0
    )
    title = "Utility against the privacy budget"
    return Chart("utility", title, "privacy budget ε (log scale)", panels)


def _clients(good: pl.DataFrame) -> Chart | None:
    counted = good.filter(pl.col("ratio").is_not_null() & (pl.col("partition") != "column"))
    rows = _held(counted, ("partition", "alpha", "silence", "epsilon"))
    if rows["clients"].n_unique() < 2:
        return None
    panels = tuple(
        Panel(
            _title(part, ("epsilon", "partition")),
            RATIO,
            _curves(part, "method", "clients", "ratio"),
            reference=1.0,
        )
        for part in _parts(rows)
    )
    return Chart(
        "clients",
        "Effect of the number of clients",
        "number of clients (log scale)",
        panels,
    )


def _skew(good: pl.DataFrame) -> Chart | None:
    rows = _held(good.filter(pl.col("ratio").is_not_null()), ("clients", "silence", "epsilon"))
    order = list(DIVISION_NAMES)
    ways = sorted(
        rows.select("partition", "alpha").unique().rows(),
        key=lambda way: (order.index(way[0]), -(way[1] or 0)),
    )
    if len(ways) < 2:
        return None
    places = pl.DataFrame(
        {
            "partition": [way[0] for way in ways],
            "alpha": pl.Series([way[1] for way in ways], dtype=pl.Float64),
            "place": pl.Series(range(len(ways)), dtype=pl.Float64),
        }
    )
    placed = rows.join(places, on=["partition", "alpha"], nulls_equal=True)
    ticks = tuple(_way(*way) for way in ways)
    panels = tuple(
        Panel(
            _title(part, ("epsilon", "clients")),
            RATIO,
            _curves(part, "method", "place", "ratio"),
            ticks=ticks,
            reference=1.0,
        )
        for part in _parts(placed)
    )
    return Chart(
        "skew",
        "Effect of how rows are divided",
        "division of rows among clients (smaller α: more skewed)",
        panels,
    )


def _cost(good: pl.DataFrame) -> Chart | None:
    own = good.filter(pl.col("method") == KESIT)
    by = next((c for c in ("clients", "epsilon") if own[c].drop_nulls().n_unique() > 1), None)
    if by is None:
        return None
    others = tuple(c for c in (*_DIVISION, "epsilon") if c != by)
    rows = _held(own, others)
    sizes = rows.select("study", "rows", "dimensions", "k").rows()
    rows = rows.with_columns(
        kilobytes=pl.col("bytes") / 1000,
        label=pl.Series([f"{study}: {_size(n, d, k)}" for study, n, d, k in sizes]),
    )
    held = "epsilon" if by == "clients" else "clients"
    where = _setting(rows, (held, "partition"))
    measures = (("messages", "messages a client"), ("kilobytes", "kilobytes a client, both ways"))
    panels = tuple(
        Panel(where, label, _curves(rows, "label", by, measure)) for measure, label in measures
    )
    x_label = "number of clients" if by == "clients" else "privacy budget ε"
    return Chart("cost", "What a study costs", f"{x_label} (log scale)", panels)


def _held(rows: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """The rows at one value of each of these columns, chosen in each panel; null fits any value."""
    kept = []
    for part in _parts(rows):
        for column in columns:
            values = part[column].drop_nulls().unique(maintain_order=True).to_list()
            if values:
                chosen = _usual_epsilon(values) if column == "epsilon" else values[0]
                part = part.filter(pl.col(column).is_null() | (pl.col(column) == chosen))
        kept.append(part)
    return pl.concat(kept) if kept else rows


def _usual_epsilon(values: list[float]) -> float:
    return 1.0 if 1.0 in values else sorted(values)[len(values) // 2]


def _parts(rows: pl.DataFrame) -> list[pl.DataFrame]:
    return rows.partition_by(*_PANEL, maintain_order=True)


def _curves(rows: pl.DataFrame, label: str, x: str, y: str) -> tuple[Curve, ...]:
    """One curve for each value of `label`, in the order of the table."""
    value = pl.col(y)
    points = (
        rows.group_by(label, x, maintain_order=True)
        .agg(
            median=value.median(),
            low=value.quantile(LOW, "linear"),
            high=value.quantile(HIGH, "linear"),
        )
        .sort(x, maintain_order=True)
    )
    return tuple(
        Curve(
            str(name),
            *(tuple(part[column].to_list()) for column in (x, "median", "low", "high")),
        )
        for name in rows[label].unique(maintain_order=True)
        for part in [points.filter(pl.col(label) == name)]
    )


def _levels(rows: pl.DataFrame) -> tuple[Curve, ...]:
    """Methods that have no ε: one level each."""
    return _curves(rows.with_columns(x=pl.lit(0.0)), "method", "x", "ratio")


def _spread(table: pl.DataFrame) -> str:
    seeds = table["seed"].n_unique()
    if seeds == 1:
        return "One seed."
    return f"Median over {seeds} seeds; bands and bars: {100 * LOW:.0f} to {100 * HIGH:.0f} %."


def _title(part: pl.DataFrame, columns: tuple[str, ...]) -> str:
    row = part.row(0, named=True)
    size = _size(row["rows"], row["dimensions"], row["k"])
    return f"{row['study']}\n{size}, {_setting(part, columns)}"


def _size(rows: int, dimensions: int, k: int) -> str:
    return f"n = {rows:,}, d = {dimensions}, k = {k}"


def _setting(part: pl.DataFrame, columns: tuple[str, ...]) -> str:
    """The values at which these columns are held, in words."""
    texts = []
    for column in columns:
        row = part.filter(pl.col(column).is_not_null()).row(0, named=True)
        if column == "clients":
            texts.append(f"{row['clients']} clients")
        elif column == "epsilon":
            texts.append(f"ε = {row['epsilon']:g}")
        else:
            texts.append(_way(row["partition"], row["alpha"]))
    return ", ".join(texts)


def _way(partition: str, alpha: float | None) -> str:
    name = DIVISION_NAMES[partition]
    return name if alpha is None else f"{name} α = {alpha:g}"
