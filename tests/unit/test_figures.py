"""Figures of sweeps: what is drawn for which table, and that files come out whole."""

from __future__ import annotations

import sys
from itertools import product
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from kesit_simulations.baselines import BASELINES
from kesit_simulations.errors import SimulationError
from kesit_simulations.sweeps import figures, plots
from kesit_simulations.sweeps.figures import Chart, Panel
from kesit_simulations.sweeps.spec import KESIT
from kesit_simulations.sweeps.table import SCHEMA


def row(**changes: Any) -> dict[str, Any]:
    """One row of a sweep's table."""
    usual: dict[str, Any] = {
        "study": "Blobs",
        "data": "blobs",
        "method": KESIT,
        "epsilon": 1.0,
        "delta": 1e-5,
        "k": 3,
        "clients": 5,
        "partition": "iid",
        "silence": 0.0,
        "seed": 0,
        "rows": 1000,
        "dimensions": 2,
        "inertia": 2.0,
        "inertia_pooled": 1.0,
        "ratio": 2.0,
        "messages": 8.0,
        "bytes": 5000.0,
        "seconds": 0.1,
    }
    return {name: (usual | changes).get(name) for name in SCHEMA}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    """A sweep's table."""
    return pl.DataFrame(list(rows), schema=SCHEMA)


def chart_of(name: str, found: pl.DataFrame) -> Chart:
    """The chart of that name."""
    return next(chart for chart in figures.charts(found) if chart.name == name)


def test_utility_has_a_curve_a_private_method_and_a_level_for_the_others() -> None:
    rows = [
        row(epsilon=epsilon, seed=seed, ratio=1 + (seed + 1) / epsilon)
        for epsilon, seed in product((2.0, 0.5), range(11))
    ]
    rows += [row(method="alone", epsilon=None, seed=seed, ratio=4.0 + seed) for seed in range(11)]
    chart = chart_of("utility", table(*rows))
    (panel,) = chart.panels
    (curve,) = panel.curves
    assert (curve.label, curve.x) == (KESIT, (0.5, 2.0))
    assert curve.median == (13.0, 4.0)  # seeds 0 .. 10: the sixth
    assert curve.low == (5.0, 2.0)  # the second
    assert curve.high == (21.0, 6.0)  # the tenth
    (level,) = panel.levels
    assert (level.label, level.median, level.low, level.high) == ("alone", (9.0,), (5.0,), (13.0,))
    assert panel.title == "Blobs\nn = 1,000, d = 2, k = 3, 5 clients, iid"
    assert "ε" in chart.x_label
    assert chart.note == "Median over 11 seeds; bands and bars: 10 to 90 %."


def test_only_what_varies_is_drawn() -> None:
    assert figures.charts(table(row(), row(seed=1))) == ()
    assert figures.charts(table()) == ()
    assert [c.name for c in figures.charts(table(row(), row(epsilon=2.0)))] == ["utility", "cost"]
    assert [c.name for c in figures.charts(table(row(), row(clients=9)))] == ["clients", "cost"]
    skewed = table(row(), row(partition="quantity", alpha=0.5))
    assert [c.name for c in figures.charts(skewed)] == ["skew"]
    baselines = table(row(method="dplloyd"), row(method="dplloyd", epsilon=2.0))
    assert [c.name for c in figures.charts(baselines)] == ["utility"]  # cost is Kesit's alone


def test_each_figure_varies_one_thing_and_says_at_what_the_others_are_held() -> None:
    rows = [
        row(epsilon=epsilon, clients=clients, partition=partition, alpha=alpha, ratio=ratio)
        for ratio, (epsilon, clients, (partition, alpha)) in enumerate(
            product((0.5, 1.0, 2.0), (5, 10), (("iid", None), ("quantity", 0.3))), start=2
        )
    ]
    found = table(*rows)
    charts = {chart.name: chart.panels[0] for chart in figures.charts(found)}
    assert charts["utility"].title.endswith("k = 3, 5 clients, iid")
    assert charts["utility"].curves[0].median == (2.0, 6.0, 10.0)
    assert charts["clients"].title.endswith("k = 3, ε = 1, iid")
    assert charts["clients"].curves[0].median == (6.0, 8.0)
    assert charts["skew"].title.endswith("k = 3, ε = 1, 5 clients")
    assert charts["skew"].ticks == ("iid", "size skew α = 0.3")
    assert charts["skew"].curves[0].median == (6.0, 7.0)
    assert charts["cost"].title == "ε = 1, iid"


def test_skew_is_in_order_of_strength() -> None:
    ways = [("quantity", 0.1), ("dirichlet", 0.1), ("iid", None), ("dirichlet", 10.0)]
    found = table(*(row(partition=partition, alpha=alpha) for partition, alpha in ways))
    assert chart_of("skew", found).panels[0].ticks == (
        "iid",
        "label skew α = 10",
        "label skew α = 0.1",
        "size skew α = 0.1",
    )


def test_there_is_a_panel_for_each_study_and_k() -> None:
    found = table(*(row(study=s, k=k, epsilon=e) for s, k, e in product("AB", (2, 3), (0.5, 1.0))))
    chart = chart_of("utility", found)
    assert [panel.title for panel in chart.panels] == [
        f"{study}\nn = 1,000, d = 2, k = {k}, 5 clients, iid" for study, k in product("AB", (2, 3))
    ]
    costs = chart_of("cost", found)
    assert [panel.y_label for panel in costs.panels] == [
        "messages a client",
        "kilobytes a client, both ways",
    ]
    assert costs.panels[1].curves[0].median == (5.0, 5.0)
    assert costs.panels[0].curves[3].label == "B: n = 1,000, d = 2, k = 3"


def test_failed_cells_are_left_out_and_counted() -> None:
    failed = row(epsilon=0.1, ratio=None, inertia=None, error="too small")
    chart = chart_of("utility", table(row(), row(epsilon=2.0), failed))
    assert chart.panels[0].curves[0].x == (1.0, 2.0)
    assert chart.note == "One seed. 1 of 3 cells failed and are left out."
    assert figures.charts(table(failed, failed | {"epsilon": 0.2})) == ()
    hopeless = [failed | {"k": 9}, row(k=9, method="alone", epsilon=None)]
    chart = chart_of("utility", table(row(), row(epsilon=2.0), *hopeless))
    assert len(chart.panels) == 1  # k = 9 has nothing to show against ε


def test_files_are_pictures_and_the_same_each_time() -> None:
    rows = [
        row(method=method, epsilon=epsilon, seed=seed, ratio=1 + seed / epsilon)
        for method, epsilon, seed in product((KESIT, *BASELINES), (0.1, 0.11, 10.0), (0, 1))
    ]
    chart = chart_of("utility", table(*rows))
    files = plots.draw(chart)
    assert sorted(files) == ["utility.png", "utility.svg"]
    assert files["utility.png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert ElementTree.fromstring(files["utility.svg"]).tag.endswith("svg")
    assert plots.draw(chart) == files


@pytest.mark.parametrize("panels", [1, 2, 5])
def test_all_kinds_of_panels_can_be_drawn(panels: int) -> None:
    rows = [
        row(k=k, clients=clients, partition=partition, alpha=alpha, epsilon=epsilon)
        for k, clients, epsilon, (partition, alpha) in product(
            range(2, 2 + panels), (3, 300), (0.1, 1.0), (("iid", None), ("dirichlet", 0.1))
        )
    ]
    charts = figures.charts(table(*rows))
    assert [chart.name for chart in charts] == ["utility", "skew", "clients", "cost"]
    for chart in charts:
        assert len(plots.draw(chart)) == 2


def drawn(found: pl.DataFrame, name: str = "utility") -> Any:
    """The axes of a chart's first panel."""
    return plots._figure(chart_of(name, found)).axes[0]


def test_axes_are_logarithmic_where_they_say_so() -> None:
    wide = drawn(table(row(ratio=1.1), row(epsilon=2.0, ratio=11.0)))
    assert (wide.get_xscale(), wide.get_yscale()) == ("log", "log")
    assert "log scale" in wide.get_xlabel()
    assert wide.get_ylabel().endswith("(log scale)")
    narrow = drawn(table(row(ratio=1.1), row(epsilon=2.0, ratio=1.2)))
    assert narrow.get_yscale() == "linear"
    assert "log" not in narrow.get_ylabel()
    cost = drawn(table(row(), row(epsilon=2.0)), "cost")
    assert cost.get_ylim()[0] == 0


def test_curves_differ_without_their_colours() -> None:
    looks = [plots._style(method, 0) for method in (KESIT, *BASELINES)]
    assert len({str((look["marker"], look["linestyle"])) for look in looks}) == len(looks)
    assert len({look["label"] for look in looks}) == len(looks)
    assert {look["color"] for look in looks} <= set(plots._OKABE_ITO)


def test_every_method_has_looks_of_its_own() -> None:
    assert set(plots._METHODS) == {KESIT, *BASELINES}


def test_labels_that_would_touch_are_left_out() -> None:
    assert plots._spaced([0.1, 0.105, 0.2, 1.0]) == [0.1, 0.2, 1.0]
    assert plots._spaced([3.0]) == [3.0]


def test_without_matplotlib_the_remedy_is_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SimulationError, match="need matplotlib") as caught:
        plots.draw(Chart("empty", "Empty", "x", (Panel("", "", ()),)))
    assert caught.value.remedy == "pip install 'kesit[report]'"
