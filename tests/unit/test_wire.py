"""What leaves a node: a code of the fixed list, or words whose number says nothing about the data.

Whatever stands in a customer's row, and whatever breaks inside a node, the server reads neither a
text nor a length that depends on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict  # isort: skip
from flwr.common.serde import message_to_proto  # isort: skip

from kesit_client.app import make_app
from kesit_client.errors import SourceError
from kesit_client.node import Node
from kesit_client.rows.cache import ArrayRows
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import CodeArray
from kesit_privacy.wire import (
    END,
    HELLO,
    MEANING,
    RECORD,
    REPLY,
    REQUEST,
    SUM,
    TRANSCRIPT,
    Refusal,
    RefusalCode,
    pack_words,
    read_reply,
    refusal,
    reply,
    unpack_words,
)
from kesit_simulations.grid import InProcessGrid
from kit import (
    begin,
    begin_with,
    mixed_study,
    random_codes,
)

SECRET = "customer 4711 earns 98765"
STUDY = mixed_study()


# --- replies -------------------------------------------------------------------------------------


def test_every_code_but_ok_has_a_meaning_and_a_refusal_is_one_byte() -> None:
    assert set(MEANING) == set(RefusalCode) - {RefusalCode.OK}
    for code in MEANING:
        assert read_reply(refusal(code)) == (code, b"")
        assert len(refusal(code)) == 1
    assert read_reply(reply(b"words")) == (RefusalCode.OK, b"words")


@given(st.binary(max_size=40))
@settings(deadline=None)
def test_any_reply_is_read_or_refused(data: bytes) -> None:
    try:
        code, payload = read_reply(data)
    except ProtocolError:
        assert not data or data[0] > max(RefusalCode) or len(data) > 1
        return
    assert bytes([code]) + payload == data
    assert code is RefusalCode.OK or payload == b""


@given(st.binary(max_size=80), st.integers(0, 10))
@settings(deadline=None)
def test_words_have_one_length(data: bytes, size: int) -> None:
    try:
        words = unpack_words(data, size)
    except ProtocolError:
        assert len(data) != 8 * size
        return
    assert pack_words(words) == data


def test_a_refusal_s_text_is_not_part_of_what_is_sent() -> None:
    error = Refusal(RefusalCode.POLICY, SECRET, remedy=SECRET)
    assert refusal(error.code) == bytes([RefusalCode.POLICY])


# --- lengths -------------------------------------------------------------------------------------


def test_answers_have_the_same_length_for_no_and_for_ten_thousand_customers() -> None:
    lengths = set()
    for rows in (0, 1, 10_000):
        codes = random_codes(STUDY, rows)
        session = begin_with(lambda study, codes=codes: ArrayRows(codes))
        nodes = session.nodes
        data = session.order.encode(), session.transcript.encoded
        lengths.add(
            (
                len(nodes[0].hello(session.transcript.request.encoded)),
                len(nodes[0].answer(*data)),
                len(nodes[0].end(session.transcript.request.encoded)),
            )
        )
    [(_, answer, end)] = lengths
    assert (answer, end) == (1 + 8 * session.order.length, 1)


# --- whatever breaks inside ----------------------------------------------------------------------


class Panic(BaseException):
    """As Rust's panics in Polars: no `Exception`."""


FAILURES: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Exception(SECRET),
    "ValueError": lambda: ValueError(SECRET),
    "MemoryError": lambda: MemoryError(SECRET),
    "RecursionError": lambda: RecursionError(SECRET),
    "AssertionError": lambda: AssertionError(SECRET),
    "OSError": lambda: OSError(5, SECRET),
    "a Polars error": lambda: pl.exceptions.ComputeError(SECRET),
    "a panic of Polars": lambda: pl.exceptions.PanicException(SECRET),
    "a BaseException": lambda: Panic(SECRET),
}


class Failing:
    """Rows, a noise source, studies or a way to find a node: whatever is asked, it raises."""

    mode = "off"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *anything: Any, **more: Any) -> Any:
        raise self.error

    prepare = codes = sample = get = __call__


class BrokenBooks:
    """A store whose disk is gone."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def restored(self) -> str | None:
        raise self.error

    def transaction(self) -> None:
        raise self.error


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("part", ["rows", "noise", "studies"])
def test_an_exception_inside_a_node_leaves_only_its_code(part: str, name: str) -> None:
    session = begin(clients=3)
    node = session.nodes[0]
    setattr(node, part, Failing(FAILURES[name]()))
    replies = [
        node.answer(session.order.encode(), session.transcript.encoded),
        node.hello(replace(session.transcript.request, run="00" * 16).encoded),
    ]
    assert replies[0] == refusal(RefusalCode.INTERNAL)
    if part != "noise":
        assert replies[1] == refusal(RefusalCode.INTERNAL)
    with node.store.transaction() as books:
        assert SECRET in books.refusals()[0][2]  # for the owner, and nobody else


@pytest.mark.parametrize("error", [sqlite3.OperationalError(SECRET), OSError(28, SECRET)])
def test_broken_books_leave_only_a_code(error: Exception) -> None:
    """Not even the refusal can be logged then."""
    session = begin(clients=3)
    node = session.nodes[0]
    node.store = BrokenBooks(error)  # type: ignore[assignment]
    request = session.transcript.request.encoded
    for answer in (
        node.hello(request),
        node.answer(session.order.encode(), session.transcript.encoded),
        node.end(request),
    ):
        assert answer == refusal(RefusalCode.INTERNAL)


def test_closed_books_leave_only_a_code() -> None:
    session = begin(clients=3)
    nodes = session.nodes
    nodes[0].store.close()
    assert nodes[0].hello(session.transcript.request.encoded) == refusal(RefusalCode.INTERNAL)


def test_a_source_s_error_is_unavailable() -> None:
    session = begin(clients=3)
    nodes = session.nodes
    nodes[0].rows = Failing(SourceError(SECRET, remedy=SECRET))
    answer = nodes[0].answer(session.order.encode(), session.transcript.encoded)
    assert answer == refusal(RefusalCode.UNAVAILABLE)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_the_owner_can_still_stop_a_node(stop: type[BaseException]) -> None:
    session = begin(clients=3)
    nodes = session.nodes
    nodes[0].rows = Failing(stop())
    with pytest.raises(stop):
        nodes[0].answer(session.order.encode(), session.transcript.encoded)


@given(st.binary(max_size=100), st.binary(max_size=100))
@settings(max_examples=50, deadline=None)
def test_any_bytes_get_a_code(request: bytes, transcript: bytes) -> None:
    node = SESSION.nodes[0]
    for answer in (
        node.hello(request),
        node.answer(request, transcript),
        node.answer(SESSION.order.encode(), transcript),
        node.answer(request, SESSION.transcript.encoded),
        node.end(request),
    ):
        assert answer == refusal(RefusalCode.BAD_REQUEST)


# --- through Flower ------------------------------------------------------------------------------


def grid_of(node: Callable[[Context], Node]) -> InProcessGrid:
    return InProcessGrid(make_app(node), [11])


def send(grid: InProcessGrid, content: RecordDict, kind: str) -> Message:
    [answer] = grid.send_and_receive([grid.create_message(content, kind, 11, "")])
    return answer


def only_code(answer: Message) -> RefusalCode:
    """The code of a reply that holds nothing else, in any part of the message."""
    assert not answer.has_error()
    assert set(answer.content) == {RECORD}
    record = answer.content.config_records[RECORD]
    assert set(record) == {REPLY}
    data = record[REPLY]
    assert isinstance(data, bytes)
    assert len(data) == 1
    wire = message_to_proto(answer).SerializeToString()
    assert SECRET.encode() not in wire
    assert b"Traceback" not in wire
    assert b"Error" not in wire
    return RefusalCode(data[0])


SESSION = begin(rows=8)
CONTENTS: dict[str, Callable[[], RecordDict]] = {
    "nothing": RecordDict,
    "another record": lambda: RecordDict({"other": ConfigRecord({REQUEST: b"x"})}),
    "no fields": lambda: RecordDict({RECORD: ConfigRecord()}),
    "another field": lambda: RecordDict({RECORD: ConfigRecord({"x": b"x"})}),
    "text for bytes": lambda: RecordDict({RECORD: ConfigRecord({REQUEST: "x", TRANSCRIPT: "x"})}),
    "numbers for bytes": lambda: RecordDict({RECORD: ConfigRecord({REQUEST: 1, TRANSCRIPT: 0.5})}),
    "lists of bytes": lambda: RecordDict(
        {RECORD: ConfigRecord({REQUEST: [b"x"], TRANSCRIPT: [b"x"]})}
    ),
    "metrics": lambda: RecordDict({RECORD: MetricRecord({REQUEST: 1})}),
    "arrays": lambda: RecordDict({RECORD: ArrayRecord([np.zeros(3)])}),
    "empty bytes": lambda: RecordDict({RECORD: ConfigRecord({REQUEST: b"", TRANSCRIPT: b""})}),
    "bytes of no meaning": lambda: RecordDict(
        {RECORD: ConfigRecord({REQUEST: b"\xff" * 9, TRANSCRIPT: b"{}"})}
    ),
}


@pytest.mark.parametrize("kind", [HELLO, SUM, END])
@pytest.mark.parametrize("name", CONTENTS)
def test_malformed_content_gets_a_code_and_no_text(name: str, kind: str) -> None:
    grid = grid_of(lambda context: SESSION.nodes[0])
    code = only_code(send(grid, CONTENTS[name](), kind))
    assert code in {RefusalCode.INTERNAL, RefusalCode.BAD_REQUEST}


@pytest.mark.parametrize("kind", [HELLO, SUM, END])
@pytest.mark.parametrize("name", FAILURES)
def test_a_node_that_cannot_be_opened_sends_no_text(name: str, kind: str) -> None:
    grid = grid_of(Failing(FAILURES[name]()))
    fields = {REQUEST: SESSION.order.encode(), TRANSCRIPT: SESSION.transcript.encoded}
    content = RecordDict({RECORD: ConfigRecord(dict(fields))})
    assert only_code(send(grid, content, kind)) is RefusalCode.INTERNAL


def test_a_message_of_another_type_reaches_no_node() -> None:
    """Flower refuses it before Kesit is called; its text repeats what the server asked for."""
    grid = grid_of(Failing(AssertionError(SECRET)))
    with pytest.raises(ValueError, match="nothing"):
        send(grid, RecordDict(), "query.nothing")


def _asked(codes: CodeArray) -> Message:
    session = begin_with(lambda study: ArrayRows(codes))
    grid = grid_of(lambda context: session.nodes[0])
    fields = {REQUEST: session.order.encode(), TRANSCRIPT: session.transcript.encoded}
    return send(grid, RecordDict({RECORD: ConfigRecord(dict(fields))}), SUM)


def test_flower_s_messages_have_the_same_length_for_any_number_of_customers() -> None:
    lengths = {
        len(message_to_proto(_asked(random_codes(STUDY, rows))).SerializeToString())
        for rows in (0, 10_000)
    }
    assert len(lengths) == 1
