"""Ids: who is one customer, and how an id is written for consents and for who is held out."""

from __future__ import annotations

import datetime
import math

import numpy as np
import polars as pl
import pytest

from classifierkit import churn_frame, churn_study
from kesit_client.rows.coding import CODING, check, encode, encode_with_ids, people_ids, written_ids
from kesit_privacy.features import GRID
from kit import small_study


def test_ids_that_look_alike_are_one_customer() -> None:
    """A second row under "7 " would double what one customer can change."""
    table = pl.DataFrame({"id": ["7", "7 ", " ", "8"], "x": ["0", "1", "1", "1"], "y": ["0"] * 4})
    study = small_study()
    assert encode(table, study, "id").tolist() == [[0, 0], [GRID, 0]]
    causes = " ".join(problem.cause for problem in check(table, study, "id"))
    assert "1 rows have no id" in causes
    assert "stand in several rows" in causes


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([b"\x00", b"\x01", b"\x02"], dtype=pl.Binary),
        pl.Series([1, 2, 3]),
        pl.Series([1.0, 2.0, 3.0]),
        pl.Series(["a", "b", "c"], dtype=pl.Categorical),
    ],
)
def test_every_kind_of_id_tells_customers_apart(ids: pl.Series) -> None:
    table = pl.DataFrame({"id": ids, "x": [0.0, 0.5, 1.0], "y": [0.0, 0.5, 1.0]})
    assert len(encode(table, small_study(), "id")) == 3
    assert check(table, small_study(), "id") == []


def test_no_number_is_nobody() -> None:
    """Else two customers without a number would be one, and hide each other."""
    table = pl.DataFrame({"id": [1.0, math.nan, math.nan], "x": [0.0, 0.5, 1.0], "y": [0.0, 1, 1]})
    assert encode(table, small_study(), "id").tolist() == [[0, 0]]


ODD_IDS = [1.5, 1e30, -1e300, 2.0**63, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("odd", ODD_IDS)
def test_an_odd_id_does_not_change_how_others_are_written(odd: float) -> None:
    """Else one customer would decide who is held out, and whose consents are found."""
    study = churn_study()
    many = churn_frame(300).with_columns(pl.Series("id", np.arange(300.0)))
    one = many.head(1).with_columns(pl.Series("id", [odd]))
    alone, ids = encode_with_ids(many, study, "id")
    assert written_ids(ids) == [str(number) for number in range(300)]
    both, beside = encode_with_ids(pl.concat([many, one]), study, "id")
    assert written_ids(beside)[:300] == written_ids(ids)
    np.testing.assert_array_equal(both[:300], alone)


def test_the_way_of_writing_ids_has_a_version() -> None:
    """Caches live on over an update of Kesit: whoever changes this list raises `coding.CODING`."""
    columns = [
        pl.Series([7.0, 8.5, -0.0, 1e15, 2.0**53, float("inf")]),
        pl.Series([7, -3, 2**62]),
        pl.Series([" 7 ", "007", "7.0", "Ays\u0327e", "AYŞE", "é"]),
        pl.Series([True, False, None]),
        pl.Series([b"\x00\xff", b"7"]),
        pl.Series([datetime.date(2026, 3, 2)]),
    ]
    written = [people_ids(column) for column in columns]
    assert (CODING, written) == (
        2,
        [
            ["7", "8.5", "0", "1000000000000000", "9007199254740992.0", "inf"],
            ["7", "-3", "4611686018427387904"],
            ["7", "007", "7.0", "Ayşe", "AYŞE", "é"],
            ["true", "false"],
            ["00ff", "37"],
            ["2026-03-02"],
        ],
    )
