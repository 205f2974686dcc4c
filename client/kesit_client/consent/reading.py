"""Files of consent records as one table of text: CSV, Parquet, JSON-LD.

What is wrong with a single row is left for `records` to say; what is wrong with the file as a whole
(too large, another format, no header) is said here.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from kesit_client.consent.cells import unguarded
from kesit_client.consent.jsonld import read_records
from kesit_client.consent.terms import EVENT_FIELDS, TERMS
from kesit_client.errors import ConsentError

LINE: Final = "line"
BREAKS: Final = "line breaks"
"""Column of how many line breaks a row's fields hold, in columns that are not read, too."""
NEEDED: Final = ("record_id", "pii_principal_id", "purpose", "event_type", "event_time")
SHOWN: Final = 120
_TURKISH_1254: Final = frozenset(b"\xd0\xdd\xde\xf0\xfd\xfe")
"""Ğ İ Ş ğ ı ş in Windows-1254."""
_IN_A_LINE: Final = (
    "Its first line names the columns as docs/reference/consent.md does, in small letters, with"
    " commas or semicolons between them."
)
_NAMING: Final[dict[str, str]] = {
    ".parquet": "Name its columns as docs/reference/consent.md does, in small letters.",
    ".tsv": "Its first line names the columns as docs/reference/consent.md does, in small letters,"
    " with tabs between them.",
}


@dataclass(frozen=True)
class RawTable:
    """Rows of a file.

    Attributes:
        rows: `line`, `line breaks` and the known columns that the file has: text, or what Parquet
            holds.
        encoding: why its bytes are not UTF-8, or "".
        ignored: columns that are not read.
    """

    rows: pl.DataFrame
    encoding: str
    ignored: tuple[str, ...]


def read_file(path: Path, max_mb: float) -> RawTable:
    """The rows of a `.csv`, `.tsv`, `.parquet` or `.jsonld` file.

    Raises:
        ConsentError: unreadable, too large, of another format, or without a needed column.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ConsentError(
            f"{path}: cannot be read ({error.strerror}).", remedy="Check the path."
        ) from error
    if size > max_mb * (1 << 20):
        raise ConsentError(
            f"{path}: has {size / (1 << 20):,.1f} MiB; at most {max_mb:g} are read.",
            remedy="Split the file, or raise max_file_mb in consent.toml.",
        )
    suffix, encoding = path.suffix.lower(), ""
    try:
        if suffix == ".parquet":
            rows = pl.read_parquet(path, glob=False).with_row_index(LINE, offset=1)
        elif suffix in (".csv", ".tsv", ".txt"):
            data = path.read_bytes()
            _require_text(data, path)
            if data.count(b"\r") != data.count(b"\r\n"):  # lines that end as on old machines
                data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            encoding = not_utf8(data)
            rows = unguarded(_csv(data, "\t" if suffix == ".tsv" else None))
        elif suffix in (".jsonld", ".json"):
            rows = _table(read_records(path)).with_row_index(LINE, offset=1)
        else:
            raise ConsentError(
                f"{path}: has an unknown format.", remedy="Use .csv, .tsv, .parquet or .jsonld."
            )
    except (OSError, pl.exceptions.PolarsError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConsentError(
            f"{path}: cannot be read ({reason}).", remedy="Check the permissions and the format."
        ) from error
    return _known(rows, encoding, path)


def not_utf8(data: bytes) -> str:
    """Why bytes are not UTF-8, naming Windows-1254 if its Turkish letters are there; else ""."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        odd = {byte for byte in data if byte >= 0x80}
        turkish = _TURKISH_1254 & odd
        name = "Windows-1254 (Turkish)" if turkish else "another encoding than UTF-8"
        return f"its bytes are {name}, first in line {line}"
    return ""


def _csv(data: bytes, separator: str | None) -> pl.DataFrame:
    header = data.split(b"\n", 1)[0].decode("utf-8", "replace").removeprefix("\ufeff")
    if separator is None:
        separator = ";" if ";" in header and "," not in header else ","
    try:
        rows = pl.read_csv(data, infer_schema=False, separator=separator, encoding="utf8-lossy")
    except pl.exceptions.ComputeError:  # a row with too many fields: slower, but it is named
        return _ragged(data, separator)
    return rows.with_columns(_lines(rows, data))


def _lines(rows: pl.DataFrame, data: bytes) -> list[pl.Series]:
    """The line at which each row begins, and its line breaks, which quoted fields may hold."""
    lines = pl.Series(LINE, range(2, len(rows) + 2), dtype=pl.UInt32)
    if data.count(b"\n") <= len(rows) + 1:
        return [lines, pl.Series(BREAKS, [0], dtype=pl.UInt32).new_from_index(0, len(rows))]
    found = rows.select(pl.sum_horizontal(pl.all().str.count_matches("\n").fill_null(0)))
    breaks = found.to_series().cast(pl.UInt32).alias(BREAKS)
    return [(lines + breaks.cum_sum().shift(1, fill_value=0)).alias(LINE), breaks]


def _ragged(data: bytes, separator: str) -> pl.DataFrame:
    """Row by row: one that has more fields than the header keeps none of them."""
    reader = csv.reader(
        io.StringIO(data.decode("utf-8", "replace").removeprefix("\ufeff"), newline=""),
        delimiter=separator,
    )
    header, found, start = next(reader, []), [], 2
    for row in reader:
        if row:
            short = row if len(row) <= len(header) else []
            breaks = sum(cell.count("\n") for cell in row)
            own = {LINE: str(start), BREAKS: str(breaks)}
            found.append(own | dict(zip(header, short, strict=False)))
        start = reader.line_num + 1
    schema = dict.fromkeys([LINE, BREAKS, *header], pl.String)
    return pl.DataFrame(found, schema=schema).with_columns(pl.col(LINE, BREAKS).cast(pl.UInt32))


def _table(records: list[dict[str, str | None]]) -> pl.DataFrame:
    names = dict.fromkeys(name for record in records for name in record)
    schema = dict.fromkeys([*NEEDED, *names], pl.String)
    return pl.DataFrame(records, schema=schema)


def shortened(text: str) -> str:
    """The beginning of a file's own words, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def _known(rows: pl.DataFrame, encoding: str, path: Path) -> RawTable:
    known = [name for name in (*EVENT_FIELDS, *TERMS) if name in rows.columns]
    lacking = [name for name in NEEDED if name not in known]
    if lacking:
        found = ", ".join(name for name in rows.columns if name not in (LINE, BREAKS))
        raise ConsentError(
            f"{path}: has no column {', '.join(lacking)}. Its columns: {shortened(found)}.",
            remedy=_NAMING.get(path.suffix.lower(), _IN_A_LINE),
        )
    twice = [name for name in known if f"{name}_duplicated_0" in rows.columns]  # polars' own name
    if twice:
        raise ConsentError(
            f"{path}: has several columns {', '.join(twice)}.",
            remedy="Give each column a name of its own.",
        )
    if BREAKS not in rows.columns:
        rows = rows.with_columns(pl.lit(0, dtype=pl.UInt32).alias(BREAKS))
    ignored = tuple(sorted(set(rows.columns) - {*known, LINE, BREAKS}))
    return RawTable(rows.select(LINE, BREAKS, *known), encoding, ignored)


def _require_text(data: bytes, path: Path) -> None:
    """Refuse what Excel calls Unicode text: no column of it would be found."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data.split(b"\n", 1)[0]:
        raise ConsentError(f"{path}: is UTF-16, or no text.", remedy="Save it as CSV in UTF-8.")
