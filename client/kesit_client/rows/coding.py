"""From a table to codes, in two voices: `check` tells the owner, `encode` never fails.

`check` is strict and speaks only on the owner's machine, before a run. `encode` is total: inside a
run nothing about the data may change whether or how a client answers, so a bad value goes to its
feature's cell for missing or unknown values, and of two rows with one id the first stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
import polars as pl

from kesit_client.consent.columns import written_numbers
from kesit_client.errors import Problem
from kesit_privacy.features import Categorical, CodeArray, Feature, FloatArray, Numeric
from kesit_privacy.study import Study
from kesit_privacy.target import columns, parts

CODING = 2
"""Version of what this module makes of a row and of its id. It is part of the cache's names: rows
that were coded, or ids that were written, in another way are made anew and never mixed with these.
Version 1 wrote whole floats beside odd ones with their point ("7.0"), which is somebody else's id.
"""


def encode(table: pl.DataFrame, study: Study, id_column: str) -> CodeArray:
    """Codes of the customers, shape (customers, `target.columns`), C order.

    See `encode_with_ids`.
    """
    return encode_with_ids(table, study, id_column)[0]


def encode_with_ids(
    table: pl.DataFrame, study: Study, id_column: str
) -> tuple[CodeArray, pl.Series]:
    """Codes of the customers, and their ids in the same order.

    Rows without an id belong to nobody who could consent, and are left out; `check` reports them.
    """
    codes, ids = encode_features(table, study.features, id_column, columns(study))
    if study.classification is not None:
        codes[:, -1] = parts(study, written_ids(ids))
    return codes, ids


def encode_features(
    table: pl.DataFrame, features: Sequence[Feature], id_column: str, width: int
) -> tuple[CodeArray, pl.Series]:
    """Codes of some features in the first columns of `width`, and the customers' ids."""
    found = customers(table, id_column)
    codes = np.empty((len(found), width), dtype=np.int16)
    for index, feature in enumerate(features):
        codes[:, index] = _encode_column(feature, found[feature.name])
    return codes, found[id_column]


def customers(table: pl.DataFrame, id_column: str) -> pl.DataFrame:
    """The first row of each id, in the order of the table; rows without an id are nobody's."""
    return (
        table.with_columns(_ids(table[id_column]).alias(id_column))
        .filter(pl.col(id_column).is_not_null())
        .unique(subset=[id_column], keep="first", maintain_order=True)
    )


def written_ids(ids: pl.Series) -> list[str]:
    """Ids as consent records write them: text, whole numbers without a point.

    Each id by itself: it decides who is held out and whose consents count, so that one odd id must
    not change how the others are written.
    """
    if ids.dtype.is_float():
        return written_numbers(ids).to_list()
    if ids.dtype == pl.Binary:
        return ids.bin.encode("hex").to_list()
    return ids.cast(pl.String).to_list()


def people_ids(column: pl.Series) -> list[str]:
    """Each customer of a source's id column once, as consent records write the id."""
    return written_ids(_ids(column).drop_nulls().unique(maintain_order=True))


def _encode_column(feature: Feature, column: pl.Series) -> CodeArray:
    if isinstance(feature, Numeric):
        return feature.encode(numbers(column))
    place = {normalize("NFC", level): code for code, level in enumerate(feature.levels)}
    text = _text(column)
    codes = text.replace_strict(place, default=feature.unknown, return_dtype=pl.Int16)
    return codes.set(text.is_null(), feature.missing).to_numpy()


def numbers(column: pl.Series) -> FloatArray:
    """The column as floats, NaN where it holds no number."""
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        column = _text(column)
    return column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()


def _ids(column: pl.Series) -> pl.Series:
    """Ids as they tell customers apart: "7" and "7 " are one; NaN and blank are none."""
    if column.dtype.is_float():
        return column.fill_nan(None)
    as_they_are = column.dtype.is_integer() or column.dtype == pl.Binary
    return column if as_they_are else _text(column)


def _text(column: pl.Series) -> pl.Series:
    """The column as text without space around it; null where nothing is left.

    What has no text (bytes, lists) becomes its type's name: a level that no study knows.
    """
    if not isinstance(column.dtype, _WITH_TEXT) and not column.dtype.is_numeric():
        named = pl.when(column.is_not_null()).then(pl.lit(f"({column.dtype})"))
        return pl.select(named.alias(column.name)).to_series()
    # One letter may be written in several ways (NFC, NFD); what looks alike must be alike.
    text = column.cast(pl.String, strict=False).str.strip_chars().str.normalize("NFC")
    return text.set(text == "", None)


_WITH_TEXT = (
    pl.String,
    pl.Categorical,
    pl.Enum,
    pl.Boolean,
    pl.Date,
    pl.Datetime,
    pl.Time,
    pl.Null,
)


@dataclass(frozen=True)
class Coverage:
    """How many of a feature's values are missing, and how many lie beyond its public bounds."""

    feature: str
    missing: int
    beyond: int


def coverage(table: pl.DataFrame, study: Study) -> list[Coverage]:
    """What coding does to each feature without an error: for the owner's eyes, before a run."""
    found = []
    for feature in study.features:
        column = table[feature.name]
        if isinstance(feature, Numeric):
            values = numbers(column)
            beyond = int(((values < feature.lower) | (values > feature.upper)).sum())
            found.append(Coverage(feature.name, int((~np.isfinite(values)).sum()), beyond))
        else:
            found.append(Coverage(feature.name, _text(column).null_count(), 0))
    return found


def check(
    table: pl.DataFrame, study: Study, id_column: str, min_customers: int = 1
) -> list[Problem]:
    """Everything about the table that its owner should know before a run; empty if all is well."""
    return list(_problems(table, study, id_column, min_customers))


def _problems(
    table: pl.DataFrame, study: Study, id_column: str, min_customers: int
) -> Iterator[Problem]:
    every = _ids(table[id_column])
    nameless = every.null_count()
    if nameless:
        yield Problem(id_column, f"{nameless:,} rows have no id.", "Give each row its id.")
    ids = every.drop_nulls()
    if ids.n_unique() < len(ids):
        doubled = ids.filter(ids.is_duplicated())
        yield Problem(
            id_column,
            f"{doubled.n_unique():,} customer ids stand in several rows (first: {doubled[0]!r}).",
            "Give each customer one row, for instance by grouping.",
        )
    customers = ids.n_unique()
    if customers == 0:
        yield Problem(id_column, "there is no customer.", "Check the file, or the query's filter.")
        return
    if customers < min_customers:
        yield Problem(
            id_column,
            f"{customers:,} customers are fewer than the policy's minimum of {min_customers:,}.",
            "Join a larger unit's node, or lower min_customers in the policy.",
        )
    for feature in study.features:
        column = table[feature.name]
        if isinstance(feature, Numeric):
            yield from _numeric_problems(feature, column)
        else:
            yield from _categorical_problems(feature, column)


def _numeric_problems(feature: Numeric, column: pl.Series) -> Iterator[Problem]:
    values = numbers(column)
    absent = _text(column).is_null().to_numpy()
    if column.dtype.is_float():
        nans = column.is_nan().fill_null(False).to_numpy()
    else:
        nans = np.zeros(len(column), dtype=bool)
    text = np.isnan(values) & ~absent & ~nans
    if text.any():
        row = int(text.argmax())
        yield Problem(
            feature.name,
            f"{int(text.sum()):,} values are no numbers (row {row + 1}: {column[row]!r}).",
            "Correct them, or leave them empty if they are missing.",
        )
    for name, bad in (("NaN", nans), ("infinite", np.isinf(values))):
        if bad.any():
            yield Problem(
                feature.name,
                f"{int(bad.sum()):,} values are {name} (first in row {int(bad.argmax()) + 1}).",
                "Leave a missing value empty (null).",
            )
    present = values[np.isfinite(values)]
    if not feature.may_be_constant and _constant(feature.encode(present)):
        yield _one_step(feature, present)


def _categorical_problems(feature: Categorical, column: pl.Series) -> Iterator[Problem]:
    text = _text(column)
    unknown = (
        text.filter(
            ~text.is_in([normalize("NFC", level) for level in feature.levels]) & text.is_not_null()
        )
        .unique()
        .sort()
    )
    if len(unknown):
        listed = ", ".join(repr(level) for level in unknown[:5].to_list())
        yield Problem(
            feature.name,
            f"{len(unknown):,} levels are not in the study: {listed}.",
            f"Map them to one of: {', '.join(feature.levels[:12])}; or add them to the study.",
        )
    if not feature.may_be_constant and text.n_unique() < 2:
        yield _constant_problem(feature, repr(text[0]))


def _constant(codes: CodeArray) -> bool:
    return len(codes) == 0 or bool((codes == codes[0]).all())


def _one_step(feature: Numeric, values: FloatArray) -> Problem:
    """All values of one code: one value indeed, or bounds that cannot tell them apart."""
    if len(values) == 0 or values.min() == values.max():
        return _constant_problem(feature, f"{values[0]:g}" if len(values) else "missing")
    return Problem(
        feature.name,
        f"all values lie in one step between the bounds {feature.lower:g} and {feature.upper:g}:"
        f" {int((values < feature.lower).sum()):,} below, {int((values > feature.upper).sum()):,}"
        " above.",
        "Agree on bounds that hold most customers.",
    )


def _constant_problem(feature: Feature, value: str) -> Problem:
    return Problem(
        feature.name,
        f"every customer has the same value ({value}).",
        "Check the source; if it is right, set may_be_constant = true for this feature.",
    )
