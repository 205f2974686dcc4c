"""Files that look like others: what a spreadsheet or a program made of ids, quotes and times."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from consentkit import NOW, PURPOSE, load, row, settings, withdrawal, write
from kesit_client.consent import keeping
from kesit_client.consent.cells import guarded, unguarded
from kesit_client.consent.exporting import export_file
from kesit_client.consent.importing import Imported, import_file
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import Reason
from kesit_client.errors import ConsentError
from kesit_client.rights.access import access_report


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    with closing(ConsentStore.open(tmp_path)) as store:
        yield store


def given(store: ConsentStore) -> int:
    """How many persons count."""
    [found] = keeping.stand(store, [PURPOSE], now=NOW)
    return found.counts.get(Reason.GIVEN, 0)


def import_text(store: ConsentStore, path: Path) -> Imported:
    return import_file(store, path, purposes=(PURPOSE,), now=NOW)


# --- quotes and lines ---------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [False, True])
def test_a_quote_that_is_not_closed_takes_no_rows_along_unseen(
    store: ConsentStore, tmp_path: Path, closed: bool
) -> None:
    """Even in a column that is not read, and to the end of the file."""
    load(store, tmp_path, [row(f"p{n}") for n in range(6)])
    file = write(tmp_path / "w.csv", [withdrawal(f"p{n}", remark="x") for n in range(6)])
    lines = file.read_text().splitlines()
    lines[2] = lines[2][:-1] + '"never closed'
    if closed:
        lines[4] += '"'
    file.write_text("\n".join(lines) + "\n")
    found = import_text(store, file)
    assert found.refused["line"].to_list() == [3]
    assert "quote that is not closed" in found.refused["reason"][0]


def test_lines_that_end_as_on_old_machines_are_rows(store: ConsentStore, tmp_path: Path) -> None:
    file = write(tmp_path / "c.csv", [row("a"), row("b")])
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    assert import_text(store, file).new == 2


def test_utf_16_and_two_columns_of_a_name_are_said(store: ConsentStore, tmp_path: Path) -> None:
    file = write(tmp_path / "c.csv", [row("a")])
    plain = file.read_text()
    file.write_bytes(plain.encode("utf-16"))
    with pytest.raises(ConsentError, match="UTF-16"):
        import_text(store, file)
    header, line = plain.splitlines()
    file.write_text(f"{header},purpose\n{line},marketing\n")
    with pytest.raises(ConsentError, match="several columns purpose"):
        import_text(store, file)


# --- ids ----------------------------------------------------------------------------------------


def test_one_empty_id_does_not_make_the_others_into_other_ids(
    store: ConsentStore, tmp_path: Path
) -> None:
    load(store, tmp_path, [row("4711"), row("4712"), row("4713")])
    rows = pl.DataFrame([withdrawal("x", record_id=f"w{n}") for n in range(4)])
    ids = pl.Series("pii_principal_id", [4711.0, None, 4712.0, 1e20])
    rows.with_columns(ids).write_parquet(tmp_path / "w.parquet")
    found = import_text(store, tmp_path / "w.parquet")
    assert (found.new, len(found.refused)) == (2, 2)
    assert given(store) == 1
    file = tmp_path / "w.jsonld"
    file.write_text(json.dumps([withdrawal("x") | {"pii_principal_id": 4713.0}]))
    import_text(store, file)
    assert given(store) == 0


@pytest.mark.parametrize("written", ["4711\u200b", "\ufeff4711", "47\u00ad11", "4.711E+03"])
def test_an_id_that_only_looks_like_another_is_refused(
    store: ConsentStore, tmp_path: Path, written: str
) -> None:
    load(store, tmp_path, [row("4711")])
    found = load(store, tmp_path, [row("a"), withdrawal(written)])
    assert found.refused["line"].to_list() == [3]


@pytest.mark.parametrize("written", ["04711", "4711.0", "AYŞE"])
def test_withdrawals_of_what_nobody_gave_are_told(
    store: ConsentStore, tmp_path: Path, written: str
) -> None:
    load(store, tmp_path, [row("4711"), row("ayşe")])
    found = load(store, tmp_path, [withdrawal(written), withdrawal("4711")])
    assert (found.new, found.unmatched) == (2, 1)


@pytest.mark.parametrize("click", [" click-a", "click-a\u00a0"])
def test_one_action_for_two_purposes_is_seen_through_spaces(
    store: ConsentStore, tmp_path: Path, click: str
) -> None:
    load(store, tmp_path, [row("a")])
    other = row("a", purpose="marketing", record_id="r2", event_id=click)
    found = load(store, tmp_path, [other], settings=settings(purposes=("marketing",)))
    assert "two purposes" in found.refused["reason"][0]


# --- values that no calendar and no alphabet has -------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"event_time": "0001-01-01T00:00:00+03:00"},
        {"event_time": "2026-03-02T10:00:00+\u0660\u0663:\u0660\u0660"},
        {"notice_shown_at": "0001-01-01T00:00:00+14:00"},
        {"validity_duration": "P9999Y"},
    ],
)
def test_a_time_beyond_the_calendar_stops_no_other_row(
    store: ConsentStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    found = load(store, tmp_path, [row("a", **changes), row("b")])
    assert (found.new, found.refused["line"].to_list()) == (1, [2])
    assert access_report(store, "b", NOW)["events"]


@pytest.mark.parametrize(
    ("column", "said"),
    [("event_type", "event_type is missing"), ("event_id", "missing: event_id (a consent")],
)
@pytest.mark.parametrize("value", [b"\xff", [1]])
def test_a_column_of_another_type_is_missing(
    store: ConsentStore, tmp_path: Path, column: str, said: str, value: object
) -> None:
    table = pl.DataFrame([row("a")]).with_columns(pl.Series(column, [value]))
    table.write_parquet(tmp_path / "c.parquet")
    found = import_text(store, tmp_path / "c.parquet")
    assert found.refused["reason"][0].startswith(said)


def test_half_a_letter_in_json_is_refused(store: ConsentStore, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonld"
    file.write_text(json.dumps([row("a", entity_id="\ud800"), row("b")]))
    found = import_text(store, file)
    assert (found.new, found.refused["line"].to_list()) == (1, [1])


def test_many_different_durations_do_not_hold_the_store_for_minutes(
    store: ConsentStore, tmp_path: Path
) -> None:
    rows = [row(f"p{n}", validity_duration=f"PT{n + 1}S") for n in range(2000)]
    begun = time.monotonic()
    assert load(store, tmp_path, rows).new == 2000
    assert time.monotonic() - begun < 10


# --- what is written ----------------------------------------------------------------------------


def test_no_cell_that_is_written_is_a_formula_and_all_are_read_as_they_were(
    store: ConsentStore, tmp_path: Path
) -> None:
    link = '=HYPERLINK("http://x","y")'
    load(store, tmp_path, [row("+905551112233", record_id=link), row("''=a", entity_id="-1")])
    keeping.withdraw(store, "+905551112233", now=NOW)
    assert export_file(store, tmp_path / "all.csv") == 3
    table = pl.read_csv(tmp_path / "all.csv", infer_schema=False)
    cells = [cell for line in table.rows() for cell in line if cell]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    assert table["pii_principal_id"].to_list() == ["'+905551112233", "''=a", "'+905551112233"]
    kept = settings(defaults={"privacy_rights": "branch"})
    for _ in range(2):
        found = import_file(
            store, tmp_path / "all.csv", purposes=(PURPOSE,), settings=kept, now=NOW
        )
        assert (found.new, found.known, found.unmatched) == (0, 3, 0)
    bad = load(store, tmp_path, [row("x", record_id="@cmd", event_type="agreed")])
    bad.write_report(tmp_path / "report.csv")
    assert ",'@cmd," in (tmp_path / "report.csv").read_text()


def test_lists_for_other_programs_hold_no_formulas_and_their_ids_match() -> None:
    ids = ["+905551112233", "-7", "=cmd()", "+1+cmd()", "@a", "'=b", "c"]
    safe = guarded(pl.DataFrame({"id": ids}), signed=False)
    assert safe["id"].to_list() == [*ids[:2], "'=cmd()", "'+1+cmd()", "'@a", "''=b", "c"]
    assert unguarded(safe)["id"].to_list() == ids


@pytest.mark.parametrize(
    "typed", ["4711\u200b", "\ufeff4711", "\udcff", "47\x0011", "47\u202811", "4711\ufe0f"]
)
def test_an_id_that_is_typed_holds_only_what_can_be_seen(typed: str) -> None:
    assert keeping.person_id(" 4711 ") == "4711"
    with pytest.raises(ConsentError, match="cannot be seen"):
        keeping.person_id(typed)


def test_a_withdrawal_is_of_a_consent_and_waits_for_it(store: ConsentStore, tmp_path: Path) -> None:
    """A contract that came later makes no withdrawal too early."""
    contract = row("a", lawful_basis="contract", event_time="2026-05-01T10:00:00+03:00")
    load(store, tmp_path, [contract])
    assert load(store, tmp_path, [withdrawal("a")]).unmatched == 1
    load(store, tmp_path, [row("a", record_id="r2", event_id="c2")])
    assert given(store) == 0


def test_a_record_ahead_of_the_clock_does_not_come_back_after_an_erasure(
    store: ConsentStore, tmp_path: Path
) -> None:
    ahead = row("a", event_time="2026-06-01T00:04:00+03:00")
    load(store, tmp_path, [ahead])
    store.erase("a", NOW)
    found = load(store, tmp_path, [ahead], now=NOW + 3_600_000_000)
    assert "erased" in found.refused["reason"][0]
