"""The tables that simulations, tests and benchmarks run on, behind one function.

Public data sets are read from a folder outside the project (`data_root`) and never copied into it;
`digits` comes with scikit-learn, and `retail-bank` is generated. Every table has an identifier
column of text. Where the source has none, it is `row_id`: "r" and the row's position in the file.

What is changed on the way in:
    adult          "?" becomes null
    telco          `TotalCharges` becomes a number, and its blanks null
    house          its constant `label` column is dropped
    online_retail  transactions become one row per customer; see `summarise_purchases`
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import polars as pl

from kesit_simulations import retail_bank
from kesit_simulations.errors import DatasetError, SimulationError

ROOT_VARIABLE: Final = "KESIT_DATA"
DEFAULT_ROOT: Final = Path("..", "shared", "data")

RETAIL_AS_OF: Final = date(2011, 12, 10)
"""The day after the last transaction of online_retail, from which its days are counted back."""

_CC: Final = "CC BY 4.0"
_IBM: Final = "IBM sample data; no licence stated with the file"
_SIPU: Final = "Clustering datasets, University of Eastern Finland"
_SUITE: Final = "public benchmark suite; no licence stated with the file"


@dataclass(frozen=True)
class Dataset:
    """A table with what is needed to use and to cite it.

    Attributes:
        name: the name it is loaded by.
        frame: one row per customer or object, with the identifier and label columns included.
        id_column: name of the identifier column: text, unique, never null.
        label_column: name of the column that holds the true class, or None.
        title: the data set's full name.
        source: where it is published.
        licence: terms of use of the data.
    """

    name: str
    frame: pl.DataFrame
    id_column: str
    label_column: str | None
    title: str
    source: str
    licence: str


def names() -> tuple[str, ...]:
    """Names that `load` accepts, in the order of the catalogue."""
    return tuple(_CATALOGUE)


def load(name: str) -> Dataset:
    """Read, tidy and describe one data set.

    Args:
        name: one of `names()`.

    Raises:
        SimulationError: the name is unknown, or `digits` is asked for without scikit-learn.
        DatasetError: the data set's file is missing or unreadable.
    """
    entry = _CATALOGUE.get(name)
    if entry is None:
        raise SimulationError(
            f'There is no data set called "{name}".', remedy=f"Use one of: {', '.join(names())}."
        )
    read, id_column, label_column, title, source, licence = entry
    return Dataset(name, read(), id_column, label_column, title, source, licence)


def data_root() -> Path | None:
    """Folder that holds the public data sets.

    Returns:
        The folder that the environment variable KESIT_DATA names, whether it exists or not; if the
        variable is unset or empty, the first `../shared/data` that exists, seen from the current
        directory and then from each of its parents; otherwise None.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents):
        candidate = (folder / DEFAULT_ROOT).resolve()
        if candidate.is_dir():
            return candidate
    return None


def summarise_purchases(transactions: pl.DataFrame) -> pl.DataFrame:
    """Turn the lines of online_retail into one row per customer.

    A purchase line has a customer, a quantity above 0 and a price of 0 or more; cancelled lines
    have a negative quantity. Dropped are lines without a customer (a quarter of the file), and so
    are the few customers who only ever cancelled, as they have no day of purchase. The stored file
    has neither invoice numbers nor product codes: an invoice is told by its time stamp (to the
    minute, within a customer) and a product by its description.

    Args:
        transactions: columns CustomerID, InvoiceDate, Quantity, UnitPrice (GBP), Description and
            Country.

    Returns:
        Sorted by `customer_id` (text), with `country` (that of the last purchase), `recency` (days
        from the last purchase to 2011-12-10), `frequency` (number of invoices), `monetary` (sum of
        quantity times price, GBP), `distinct_products`, `mean_basket` (GBP per invoice) and
        `tenure` (days from the first purchase to 2011-12-10).
    """
    lines = transactions.filter(
        pl.col("CustomerID").is_not_null() & (pl.col("Quantity") > 0) & (pl.col("UnitPrice") >= 0)
    ).with_columns(
        customer_id=pl.col("CustomerID").cast(pl.Int64).cast(pl.String),
        day=pl.col("InvoiceDate").dt.date(),
    )
    as_of = pl.lit(RETAIL_AS_OF)
    return (
        lines.group_by("customer_id")
        .agg(
            country=pl.col("Country").sort_by("InvoiceDate", "Country").last(),
            recency=(as_of - pl.col("day").max()).dt.total_days(),
            frequency=pl.col("InvoiceDate").n_unique().cast(pl.Int64),
            # Pence are rounded off so that the order of summation cannot show.
            monetary=(pl.col("Quantity") * pl.col("UnitPrice")).sum().round(2),
            distinct_products=pl.col("Description").n_unique().cast(pl.Int64),
            tenure=(as_of - pl.col("day").min()).dt.total_days(),
        )
        .with_columns(mean_basket=(pl.col("monetary") / pl.col("frequency")).round(2))
        .sort("customer_id")
    )


def _find(relative: str) -> Path:
    root = data_root()
    path = (root or DEFAULT_ROOT) / relative
    if not path.is_file():
        seen_from = "" if root else " (seen from the current directory and each of its parents)"
        raise DatasetError(
            f"The data file {path}{seen_from} does not exist.",
            remedy=f"Set the environment variable {ROOT_VARIABLE} to the folder that holds "
            f"{relative}.",
        )
    return path


def _read(relative: str, tidy: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Read a file and `tidy` it; a file that can be read but not tidied is as bad as no file."""
    path = _find(relative)
    try:
        if path.suffix == ".parquet":
            return tidy(pl.read_parquet(path))
        # The whole file decides a column's type: some hold their first fraction late.
        return tidy(pl.read_csv(path, infer_schema_length=None))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(
            f"The data file {path} cannot be used: {error}",
            remedy="Replace it with a sound copy from the data set's source.",
        ) from error


def _number_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Put `row_id` in front; text, so that identifiers have one type in every data set."""
    width = len(str(frame.height))
    row_id = pl.int_range(frame.height).cast(pl.String).str.zfill(width)
    return frame.select(pl.lit("r").add(row_id).alias("row_id"), pl.all())


def _tidy_adult(frame: pl.DataFrame) -> pl.DataFrame:
    text = pl.col(pl.String).str.strip_chars()
    return _number_rows(frame.with_columns(pl.when(text != "?").then(text)))


def _tidy_telco(frame: pl.DataFrame) -> pl.DataFrame:
    # Only blanks become null; any other text that is not a number is an error.
    charges = pl.col("TotalCharges").cast(pl.String).str.strip_chars()
    return frame.with_columns(
        pl.when(charges != "").then(charges).cast(pl.Float64).alias("TotalCharges")
    )


def _tidy_house(frame: pl.DataFrame) -> pl.DataFrame:
    return _number_rows(frame.drop("label"))


def _read_digits() -> pl.DataFrame:
    try:
        # By name: scikit-learn carries no types, and only this data set needs it.
        module = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise SimulationError(
            'The data set "digits" comes with scikit-learn, which is not installed.',
            remedy="Install scikit-learn, or use another data set.",
        ) from error
    pixels, target = module.load_digits(return_X_y=True)
    frame = pl.DataFrame(pixels, schema=[f"p{i}" for i in range(pixels.shape[1])])
    return _number_rows(frame.with_columns(target=pl.Series(target)))


# Each entry: reader, id_column, label_column, title, source, licence.
_Entry: TypeAlias = tuple[Callable[[], pl.DataFrame], str, str | None, str, str, str]

_CATALOGUE: Final[Mapping[str, _Entry]] = MappingProxyType(
    {
        "adult": (
            partial(_read, "adult/adult.csv", _tidy_adult),
            "row_id",
            "income",
            "Adult (US census income)",
            "UCI id 2",
            _CC,
        ),
        "bank": (
            partial(_read, "bank/bank.csv", _number_rows),
            "row_id",
            "y",
            "Bank Marketing (Portugal)",
            "UCI id 222",
            _CC,
        ),
        "telco": (
            partial(_read, "telco/telco.csv", _tidy_telco),
            "customerID",
            "Churn",
            "Telco Customer Churn",
            "IBM",
            _IBM,
        ),
        "s1": (
            partial(_read, "clustering/s1.csv", _number_rows),
            "row_id",
            "label",
            "S1 (15 Gaussian clusters)",
            _SIPU,
            _SUITE,
        ),
        "yeast": (
            partial(_read, "clustering/yeast.csv", _number_rows),
            "row_id",
            "label",
            "Yeast (protein sites)",
            "UCI id 110",
            _CC,
        ),
        "house": (
            partial(_read, "clustering/house.csv", _tidy_house),
            "row_id",
            None,
            "House (colours of an image)",
            _SIPU,
            _SUITE,
        ),
        "online_retail": (
            partial(_read, "online_retail/online_retail.parquet", summarise_purchases),
            "customer_id",
            None,
            "Online Retail (customers of a UK gift shop)",
            "UCI id 352",
            _CC,
        ),
        "digits": (
            _read_digits,
            "row_id",
            "target",
            "Handwritten digits, 8 x 8 pixels",
            "scikit-learn load_digits; UCI id 80",
            _CC,
        ),
        "retail-bank": (
            retail_bank.generate,
            "customer_id",
            "segment",
            "A Turkish retail bank (generated)",
            "kesit_simulations.retail_bank.generate() with its default arguments",
            "that of this project; no real customers",
        ),
    }
)
