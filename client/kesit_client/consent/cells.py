"""Cells of CSV files that a spreadsheet would take for formulas.

What is written gets an apostrophe before it, as spreadsheets do themselves; what is read loses
one. So a file that is exported, looked at and imported again says the same.
"""

from __future__ import annotations

from typing import Final

import polars as pl

_BEGINS: Final = "[=+\\-@\uff1d\uff0b\uff0d\uff20]"
"""Also in the wide forms that some spreadsheets take for the narrow ones."""


def guarded(table: pl.DataFrame, *, signed: bool = True) -> pl.DataFrame:
    """The table, ready for a CSV file.

    Args:
        signed: numbers with a sign get one, too. Without it they stay as they are, for programs
            that look ids such as +905551112233 up; a spreadsheet takes them for numbers.
    """
    cells = pl.col(pl.String)
    safe = cells.str.replace(f"^('*{_BEGINS})", "'${1}")
    if signed:
        return table.with_columns(safe)
    return table.with_columns(
        pl.when(cells.str.contains(r"^[+-][0-9]+$")).then(cells).otherwise(safe)
    )


def unguarded(table: pl.DataFrame) -> pl.DataFrame:
    """The table as it was before `guarded`."""
    return table.with_columns(pl.col(pl.String).str.replace(f"^'('*{_BEGINS})", "${1}"))
