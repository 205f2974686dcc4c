"""The catalogue of data sets: how the folder is found, and what each table looks like."""

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from kesit_simulations import datasets
from kesit_simulations.datasets import Dataset, data_root, load, names, summarise_purchases
from kesit_simulations.errors import SimulationError

# name: rows, columns (with the identifier), identifier, label, classes
SHAPES = {
    "adult": (32_561, 16, "row_id", "income", 2),
    "bank": (45_211, 18, "row_id", "y", 2),
    "telco": (7_043, 21, "customerID", "Churn", 2),
    "s1": (5_000, 4, "row_id", "label", 15),
    "yeast": (1_484, 10, "row_id", "label", 10),
    "house": (1_837, 4, "row_id", None, 0),
    "online_retail": (4_339, 8, "customer_id", None, 0),
    "digits": (1_797, 66, "row_id", "target", 10),
    "retail-bank": (60_000, 13, "customer_id", "segment", 6),
}
BUILT_IN = {"digits", "retail-bank"}


def load_or_skip(name: str) -> Dataset:
    if name not in BUILT_IN and data_root() is None:
        pytest.skip("no public data: KESIT_DATA is unset and there is no ../shared/data")
    return load(name)


def test_names_are_those_of_the_catalogue() -> None:
    assert names() == tuple(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shape_identifier_and_label(name: str) -> None:
    rows, columns, id_column, label_column, classes = SHAPES[name]
    if name == "digits":
        pytest.importorskip("sklearn.datasets")
    dataset = load_or_skip(name)
    frame = dataset.frame
    assert (dataset.name, dataset.id_column, dataset.label_column) == (
        name,
        id_column,
        label_column,
    )
    assert frame.shape == (rows, columns)
    assert frame.schema[id_column] == pl.String
    assert frame[id_column].null_count() == 0
    assert frame[id_column].n_unique() == rows
    if label_column is not None:
        assert frame[label_column].null_count() == 0
        assert frame[label_column].n_unique() == classes
    assert dataset.title
    assert dataset.source
    assert dataset.licence


def test_adult_has_nulls_for_question_marks() -> None:
    frame = load_or_skip("adult").frame
    missing = {c: n for c, n in frame.null_count().row(0, named=True).items() if n}
    assert missing == {"workclass": 1_836, "occupation": 1_843, "native_country": 583}
    assert frame["row_id"][0] == "r00000"


def test_telco_charges_are_numbers_with_blanks_as_nulls() -> None:
    frame = load_or_skip("telco").frame
    assert frame["TotalCharges"].dtype == pl.Float64
    assert frame["TotalCharges"].null_count() == 11
    # A blank stands for a customer who has not been billed yet.
    assert frame.filter(pl.col("TotalCharges").is_null())["tenure"].unique().to_list() == [0]


def test_house_has_no_label_column() -> None:
    assert load_or_skip("house").frame.columns == ["row_id", "x0", "x1", "x2"]


def test_online_retail_customers_are_plausible() -> None:
    frame = load_or_skip("online_retail").frame
    assert sum(frame.null_count().row(0)) == 0
    assert frame["recency"].is_between(1, 374).all()
    assert (frame["recency"] <= frame["tenure"]).all()
    assert (frame["frequency"] >= 1).all()
    assert (frame["monetary"] >= 0).all()
    assert frame["country"].n_unique() == 37


def test_digits_pixels() -> None:
    pytest.importorskip("sklearn.datasets")
    pixels = load_or_skip("digits").frame.select(f"p{i}" for i in range(64))
    assert pixels.to_numpy().min() == 0
    assert pixels.to_numpy().max() == 16


def test_purchases_are_summarised_by_hand() -> None:
    def line(
        who: float | None, when: str, quantity: int, price: float, what: str | None, where: str
    ) -> tuple[object, ...]:
        return who, datetime.fromisoformat(when), quantity, price, what, where

    frame = pl.DataFrame(
        [
            line(7.0, "2011-12-01 10:00", 2, 1.5, "mug", "France"),
            line(7.0, "2011-12-01 10:00", 1, 4.0, "cup", "France"),
            line(7.0, "2011-12-08 09:30", 3, 1.5, "mug", "Spain"),
            line(7.0, "2011-12-09 09:30", -3, 1.5, "mug", "Italy"),  # cancelled
            line(8.0, "2011-12-09 12:00", -1, 9.0, "mug", "France"),  # only ever cancelled
            line(None, "2011-12-09 12:00", 5, 9.0, "mug", "France"),  # nobody's
        ],
        schema=["CustomerID", "InvoiceDate", "Quantity", "UnitPrice", "Description", "Country"],
        orient="row",
    )
    assert summarise_purchases(frame).to_dicts() == [
        {
            "customer_id": "7",
            "country": "Spain",
            "recency": 2,
            "frequency": 2,
            "monetary": 11.5,
            "distinct_products": 2,
            "tenure": 9,
            "mean_basket": 5.75,
        }
    ]


def test_a_dataset_is_frozen() -> None:
    dataset = Dataset("n", pl.DataFrame(), "id", None, "t", "s", "l")
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]


def test_the_variable_wins_over_the_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared" / "data"
    deep = tmp_path / "project" / "tests" / "unit"
    shared.mkdir(parents=True)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    monkeypatch.delenv("KESIT_DATA", raising=False)
    assert data_root() == shared.resolve()
    monkeypatch.setenv("KESIT_DATA", "")
    assert data_root() == shared.resolve()
    monkeypatch.setenv("KESIT_DATA", str(tmp_path / "elsewhere"))
    assert data_root() == tmp_path / "elsewhere"


def test_no_folder_is_none_and_the_error_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KESIT_DATA", raising=False)
    monkeypatch.setattr(datasets, "DEFAULT_ROOT", Path("..", "no-such", "data"))
    monkeypatch.chdir(tmp_path)
    assert data_root() is None
    with pytest.raises(SimulationError) as caught:
        load("adult")
    assert str(Path("..", "no-such", "data", "adult", "adult.csv")) in caught.value.cause
    assert "KESIT_DATA" in caught.value.remedy


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KESIT_DATA", str(tmp_path))
    with pytest.raises(SimulationError) as caught:
        load("s1")
    assert str(tmp_path / "clustering" / "s1.csv") in caught.value.cause
    assert "KESIT_DATA" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("online_retail", "online_retail/online_retail.parquet", "not parquet"),
        ("s1", "clustering/s1.csv", ""),
        ("house", "clustering/house.csv", "x0,x1\n1,2\n"),
        ("telco", "telco/telco.csv", "customerID,TotalCharges\na,1.5\nb,lots\n"),
    ],
)
def test_a_broken_file_is_named(
    name: str, file: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(content)
    monkeypatch.setenv("KESIT_DATA", str(tmp_path))
    with pytest.raises(SimulationError) as caught:
        load(name)
    assert str(tmp_path / file) in caught.value.cause


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SimulationError) as caught:
        load("iris")
    assert '"iris"' in caught.value.cause
    assert "adult" in caught.value.remedy


def test_digits_needs_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SimulationError, match="scikit-learn"):
        load("digits")
