"""`make bench` runs to its end, at a thousandth of its size."""

from __future__ import annotations

import pytest

from kesit_simulations import bench


def test_every_row_of_the_tables_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "ROWS", 3000)
    monkeypatch.setattr(bench, "MANY_ROWS", 5000)
    monkeypatch.setattr(bench, "REPEATS", 1)
    monkeypatch.setattr(bench, "FEDERATIONS", ((4, False), (4, True)))
    bench.main()
    printed = capsys.readouterr().out
    for name in (
        "ratio (at most 2)",
        "memory beyond the map (at most 300 MiB)",
        "4 clients, masks off",
        "4 clients, masks on",
        "grid and courier, a message",
    ):
        assert name in printed
