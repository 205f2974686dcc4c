"""`kesit bench deployment` measures real processes, Kesit's and Flower's, and leaves none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kesit_simulations.benchmarks import deployment
from kesit_simulations.benchmarks.stock_flower import StockFlower
from kesit_simulations.benchmarks.tether import MARK, tethered
from kesit_simulations.errors import SimulationError


def left_behind() -> list[str]:
    """Command lines of processes that some tether in this test run should have ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"\0{MARK}=".encode() in b"\0" + (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_the_three_sides_are_measured_in_one_run() -> None:
    before = set(left_behind())
    told: list[str] = []
    report = deployment.run(True, told.append)
    whole, single, sizes = report.tables
    assert "10,000 customers: 8 messages a client, 6 sums" in whole.title
    assert [row[0] for row in whole.rows] == [
        "Kesit's whole study, hello to end",
        "plain Flower, 8 empty rounds (reckoned from 2)",
        "ratio (at most 0.500)",
        "Flower's SecAgg+, 6 sums (reckoned from 1)",
        "ratio (at most 0.167)",
        "after Kesit's study: portrait and files",
    ]
    assert len(single.rows) == 4
    assert len(sizes.rows) == 2
    values = report.values
    assert len(values["kesit"]["empty"]) == 5
    assert [len(values["flower"][side]) for side in ("rounds", "sums")] == [2, 1]
    assert min(*values["flower"]["rounds"], *values["kesit"]["empty"]) > 0
    assert values["flower"]["sent"] > 0 < values["flower"]["received"]
    assert any("SecAgg+" in text for text in told)
    assert set(left_behind()) <= before


def test_a_process_that_ends_is_one_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            tethered(),
            StockFlower(tmp_path / "stock", 1, port) as stock,
            pytest.raises(SimulationError, match="superlink") as caught,
        ):
            stock.start()
    assert "address already in use" in str(caught.value).lower()
