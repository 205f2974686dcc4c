"""Bad data at a node: nothing about a customer's row changes a code or a length on the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kesit_privacy.quiet  # noqa: F401  (before Flower)
from kesit_client.rows.cache import CachedRows, Rows
from kesit_client.rows.sources import FileSource
from kesit_privacy.study import Study
from kesit_privacy.wire import (
    MEANING,
    RefusalCode,
    refusal,
)
from kit import ask, begin, begin_with, mixed_study, opened

STUDY = mixed_study()
HEADER = "id,a,b,c,income,channel"
GOOD = ["1,0.5,0.5,0.5,1000,web", "2,0.1,0.2,0.3,-50,shop", "3,0.9,0.8,0.7,1e6,phone"]


def csv(folder: Path, *lines: str, raw: bytes | None = None) -> Callable[[Study], Rows]:
    """Rows of a CSV file, through the product's own cache."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "customers.csv"
    path.write_bytes("\n".join([HEADER, *lines, ""]).encode() if raw is None else raw)
    return lambda study: CachedRows(FileSource(path, "id"), study, folder / "cache")


BAD_ROWS: dict[str, list[str]] = {
    "NaN": ["4,NaN,nan,-nan,NAN,web"],
    "infinite": ["4,inf,-inf,+Infinity,1e999,web"],
    "text in numbers": ["4,abc,0x10,1_000,--1,web"],
    "comma for point": ['4,"0,5","1.000,5",0.1,0.1,web'],
    "empty cells": ["4,,,,,"],
    "spaces": ["4,  , 0.5 ,\t,   , web "],
    "quotes": ['4,"","""","0.5",1,"we""b"'],
    "unknown level": ["4,0.5,0.5,0.5,1,fax", "5,0.5,0.5,0.5,1,WEB"],
    "duplicate ids": ["1,0.1,0.1,0.1,1,web", "1,0.2,0.2,0.2,2,shop"],
    "no id": [",0.1,0.1,0.1,1,web", " ,0.1,0.1,0.1,1,web"],
    "enormous numbers": ["4,1e308,-1e308,1e-400," + "9" * 400 + ",web"],
    "enormous text": ["4,0.5,0.5,0.5,1," + "x" * 100_000],
    "other scripts": ["٤,٠.٥,½,Ⅷ,一,ウェブ", "ğüşıöç,0.5,0.5,0.5,1,şube"],
    "control characters": ["4,0.5,0.5,\x000.5,1,w\x00eb", "5,\x1b[31m,0,0,0,\x7f"],
    "surrogates and non-characters": ["4,\ufffe,\U0010ffff,0.5,1,\u202eweb"],
    "too few cells": ["4,0.5"],
    "a line break in a cell": ['4,0.5,0.5,0.5,1,"we\nb"'],
    "a formula": ["4,=1+1,@SUM(A1),0.5,1,=cmd"],
    "constant": ["4,0.5,0.5,0.5,1,web"] * 2,
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_datum_changes_neither_code_nor_length(tmp_path: Path, name: str) -> None:
    good, bad = csv(tmp_path / "good", *GOOD), csv(tmp_path / "bad", *GOOD, *BAD_ROWS[name])
    session = begin_with(good, bad)
    request, data = session.transcript.request.encoded, session.order.encode()
    replies = [
        (node.hello(request), node.answer(data, session.transcript.encoded))
        for node in session.nodes[:2]
    ]
    assert len({(len(hello), len(answer)) for hello, answer in replies}) == 1
    assert {answer[0] for _, answer in replies} == {RefusalCode.OK}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_leaves_the_other_rows_as_they_were(tmp_path: Path, name: str) -> None:
    """Coding is a function of one row too: the good rows' codes do not change."""
    good = csv(tmp_path / "good", *GOOD)(STUDY).codes("aa")
    both = csv(tmp_path / "bad", *GOOD, *BAD_ROWS[name])(STUDY).codes("aa")
    assert len(good) == len(GOOD)
    np.testing.assert_array_equal(both[: len(good)], good)
    assert (both >= -1).all()


def test_bad_values_stand_in_the_cells_for_missing_and_unknown(tmp_path: Path) -> None:
    codes = csv(tmp_path, *BAD_ROWS["NaN"], "5,inf,abc,,-1e999,fax")(STUDY).codes("aa")
    assert codes[:, :4].tolist() == [[-1] * 4] * 2
    assert codes[1, 4] == 3  # after three levels: unknown


def test_an_empty_table_is_answered_with_zeros(tmp_path: Path) -> None:
    session = begin_with(csv(tmp_path))
    total = opened(session.answers(session.order), session.order)
    others = np.concatenate([node.rows(STUDY).codes("aa") for node in session.nodes[1:]])
    np.testing.assert_array_equal(total, session.query.sum(others))


BROKEN_FILES: dict[str, bytes] = {
    "nothing": b"",
    "no header of ours": b"x,y\n1,2\n",
    "a column less": b"id,a,b,c,income\n1,1,1,1,1\n",
    "no text at all": bytes(range(256)) * 4,
    "a quote that never ends": (HEADER + '\n1,1,1,1,1,"web\n').encode(),
    "a quote that takes its neighbours": "\n".join(
        [HEADER, *GOOD * 300, '9,1,1,1,1,"web', *GOOD * 300, ""]
    ).encode(),
    "a quote that ends too late": "\n".join(
        [HEADER, *GOOD * 300, '9,1,1,1,1,"we" "b', *GOOD * 300, ""]
    ).encode(),
    "another encoding": (HEADER + "\n1,1,1,1,1,web\n").encode("utf-16"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_is_no_table_of_ours_is_unavailable(tmp_path: Path, name: str) -> None:
    session = begin(clients=3)
    node = replace(session.nodes[0], rows=csv(tmp_path, raw=BROKEN_FILES[name]))
    request = replace(session.transcript.request, run="00" * 16).encoded
    assert node.hello(request) == refusal(RefusalCode.UNAVAILABLE)


BROKEN_RECORDS: dict[str, bytes] = {
    "a row that is no text": b"9,1,1,1,1,\xff\xfe\n",
    "a row with a cell too many": b"9,1,1,1,1,web,1\n",
    "a row with a cell too few": b"9,1,1,1,1\n",
}


@pytest.mark.parametrize("name", BROKEN_RECORDS)
def test_one_broken_record_decides_nothing(tmp_path: Path, name: str) -> None:
    """A run reads on, and the other rows keep their codes; a check refuses the file."""
    whole = (HEADER + "\n" + "\n".join(GOOD) + "\n").encode()
    good = csv(tmp_path / "good", raw=whole)(STUDY).codes("aa")
    both = csv(tmp_path / "bad", raw=whole + BROKEN_RECORDS[name])(STUDY).codes("aa")
    assert len(both) == len(good) + 1
    np.testing.assert_array_equal(both[: len(good)], good)


def test_a_run_keeps_its_rows_when_the_file_vanishes(tmp_path: Path) -> None:
    session = begin_with(csv(tmp_path, *GOOD))
    node = session.nodes[0]
    (tmp_path / "customers.csv").unlink()
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK
    later = replace(session.transcript.request, run="00" * 16)
    assert node.hello(later.encoded) == refusal(RefusalCode.UNAVAILABLE)
    node.end(session.transcript.request.encoded)
    assert not list((tmp_path / "cache").glob("*-run-*.npy"))


def test_a_cache_that_someone_broke_leaves_nothing_but_a_code(tmp_path: Path) -> None:
    session = begin_with(csv(tmp_path, *GOOD))
    node = session.nodes[0]
    [cache] = (tmp_path / "cache").glob("*-run-*.npy")
    cache.write_bytes(cache.read_bytes()[:40])
    assert node.answer(session.order.encode(), session.transcript.encoded) in {
        refusal(code) for code in MEANING
    }
    for broken in (tmp_path / "cache").glob("*.npy"):  # two names of one file
        broken.unlink()
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK
