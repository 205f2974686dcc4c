"""Where rows come from: a CSV file, a Parquet file, or a query to any database of SQLAlchemy.

A source yields one Polars table with the study's features and the customer's id, nothing else:
columns that a study does not name are never read from a file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import sqlalchemy

from kesit_client.errors import SourceError

CHUNK = 50_000
"""Rows that are fetched from a database at a time."""


class Source(Protocol):
    """A table of customers. `id_column` names the column that tells them apart."""

    @property
    def id_column(self) -> str:
        """Name of the customer's id."""

    def read(self, features: Sequence[str], *, total: bool = False) -> pl.DataFrame:
        """The id and these features, one row a record, columns in this order.

        Args:
            total: read on where a single record is malformed, as a run must; a check must not.

        Raises:
            SourceError: cannot be opened, or lacks a column.
        """

    def fingerprint(self) -> str | None:
        """Changes whenever the data may have changed; None if only reading again would tell."""


@dataclass(frozen=True)
class FileSource:
    """A CSV (`.csv`, `.tsv`, `.txt`) or Parquet (`.parquet`) file.

    CSV values are read as text and become numbers only where the study says so: no guess from the
    first rows decides a type.
    """

    path: Path
    id_column: str
    null_values: tuple[str, ...] = ("",)

    def read(self, features: Sequence[str], *, total: bool = False) -> pl.DataFrame:
        wanted = [self.id_column, *features]
        try:
            lazy = self._scan(total)
            _require(wanted, lazy.collect_schema().names(), str(self.path))
            return lazy.select(wanted).collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise SourceError(
                f"{self.path}: cannot be read ({reason}).",
                remedy="Check the path, the permissions and the format (UTF-8 CSV or Parquet).",
            ) from error

    def fingerprint(self) -> str | None:
        try:
            status = self.path.stat()
        except OSError as error:
            raise SourceError(
                f"{self.path}: cannot be read ({error.strerror}).", remedy="Check the path."
            ) from error
        place = f"{self.path.resolve()}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        return f"{place}:{self.null_values}"

    def _scan(self, total: bool) -> pl.LazyFrame:
        suffix = self.path.suffix.lower()
        if suffix == ".parquet":
            return pl.scan_parquet(self.path, glob=False)
        if suffix in (".csv", ".tsv", ".txt"):
            return pl.scan_csv(
                self.path,
                glob=False,
                separator="\t" if suffix == ".tsv" else ",",
                infer_schema=False,
                null_values=list(self.null_values),
                encoding="utf8-lossy" if total else "utf8",
                truncate_ragged_lines=total,
            )
        raise SourceError(
            f"{self.path}: has an unknown format.", remedy="Use .csv, .tsv, .txt or .parquet."
        )


@dataclass(frozen=True)
class SqlSource:
    """A query to a database. The URL is SQLAlchemy's; it is kept out of every message.

    Each value is turned into text by itself, as in a CSV file: a type guessed from a whole column
    would let one row change how the others are read.
    """

    url: str = field(repr=False)
    query: str
    id_column: str

    def read(self, features: Sequence[str], *, total: bool = False) -> pl.DataFrame:
        wanted = [self.id_column, *features]
        with ExitStack() as undo:
            try:
                engine = sqlalchemy.create_engine(self.url)
                undo.callback(engine.dispose)
                connection = undo.enter_context(engine.connect())
                result = connection.execute(sqlalchemy.text(self.query))
                present = list(result.keys())
                _require(wanted, present, "The query")
                places = [present.index(name) for name in wanted]
                parts = [_text_table(wanted, places, rows) for rows in result.partitions(CHUNK)]
            except SourceError:
                raise
            except Exception as error:  # every driver raises errors of its own
                raise SourceError(
                    f"The database query failed ({type(error).__name__}).",
                    remedy="Try the URL and the query with the database's own client;"
                    " its driver must be installed too.",
                ) from None  # a driver's text may hold the URL, and so its password
        return pl.concat(parts) if parts else _text_table(wanted, places, [])

    def fingerprint(self) -> str | None:
        return None


@dataclass(frozen=True)
class FrameSource:
    """A table that is already in memory."""

    frame: pl.DataFrame
    id_column: str

    def read(self, features: Sequence[str], *, total: bool = False) -> pl.DataFrame:
        wanted = [self.id_column, *features]
        _require(wanted, self.frame.columns, "The table")
        return self.frame.select(wanted)

    def fingerprint(self) -> str | None:
        return None


def _text_table(
    names: Sequence[str], places: Sequence[int], rows: Sequence[Sequence[Any]]
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            name: pl.Series([_text(row[place]) for row in rows], dtype=pl.String)
            for name, place in zip(names, places, strict=True)
        }
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return repr(bytes(value))
    return str(value)


def _require(wanted: Sequence[str], present: Sequence[str], place: str) -> None:
    lacking = [name for name in wanted if name not in present]
    if lacking and len(present) == 1 and ";" in present[0]:
        raise SourceError(
            f"{place}: its columns are parted by semicolons, not by commas.",
            remedy="Save it with commas (and numbers with decimal points), or as Parquet.",
        )
    if lacking:
        raise SourceError(
            f"{place}: has no column {', '.join(repr(name) for name in lacking)}.",
            remedy=f"Its columns are: {_listed(present)}. Rename one, or correct the study.",
        )
    # Polars renames the second of two equal headers.
    plain = [re.sub(r"_duplicated_\d+$", "", name) for name in present]
    doubled = [name for name in wanted if plain.count(name) > 1]
    if doubled:
        raise SourceError(
            f"{place}: has several columns {', '.join(repr(name) for name in doubled)}.",
            remedy="Give each column a name of its own.",
        )


def _listed(names: Sequence[str], most: int = 30) -> str:
    """Names for a terminal: quoted where they hold what is no plain text, and not too many."""
    shown = [name if name.isprintable() else repr(name) for name in names[:most]]
    return ", ".join(name[:60] for name in shown) + (", ..." if len(names) > most else "")
