"""Consent files: every bad row is named with its reason, the good ones are kept, once."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from consentkit import NOTICE, NOW, PURPOSE, load, row, settings, withdrawal, write
from kesit_client.consent import keeping, standing
from kesit_client.consent.events import read_time
from kesit_client.consent.exporting import export_file
from kesit_client.consent.importing import import_file
from kesit_client.consent.models import EventRow
from kesit_client.consent.settings import STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import Reason
from kesit_client.errors import ConsentError, ConsentStoreError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    store = ConsentStore.open(tmp_path)
    yield store
    store.close()


def counted(store: ConsentStore) -> int:
    with store.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(EventRow)) or 0)


def reasons(store: ConsentStore, now: int = NOW) -> list[Reason]:
    """How everybody stands."""
    with store.reading() as connection:
        table = standing.decide(standing.read(connection, PURPOSE), now)
    return [Reason(value) for value in table.sort("person")["reason"]]


def test_a_file_is_imported_once(store: ConsentStore, tmp_path: Path) -> None:
    rows = [row("a"), row("b"), withdrawal("b")]
    first = load(store, tmp_path, rows)
    assert (first.rows, first.new, first.known, len(first.refused)) == (3, 3, 0, 0)
    again = load(store, tmp_path, rows)
    assert (again.new, again.known) == (0, 3)
    assert reasons(store) == [Reason.GIVEN, Reason.WITHDRAWN]
    assert stat.S_IMODE((tmp_path / STORE).stat().st_mode) == 0o600
    events = store.events("b")
    assert events["type"].to_list() == [1, 3]
    assert events["offset"].to_list() == [10_800, 10_800]
    changed = load(store, tmp_path, [row("a", collection_channel="web")])
    assert changed.new == 1  # the same record with other content is another event


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "future": ({"event_time": "2027-01-01T00:00:00+03:00"}, "in the future"),
    "same text": ({"consent_text_hash": NOTICE}, "are one text"),
    "purpose": ({"purpose": "marketing"}, "unknown purpose"),
    "no offset": ({"event_time": "2026-03-02T10:00:00"}, "UTC offset"),
    "no time": ({"event_time": "yesterday"}, "UTC offset"),
    "no such day": ({"event_time": "2026-02-30T10:00:00Z"}, "UTC offset"),
    "notice late": ({"notice_shown_at": "2026-03-02T10:00:00+03:00"}, "not shown before"),
    "no person": ({"pii_principal_id": "  "}, "pii_principal_id is missing"),
    "line separator": ({"pii_principal_id": "x\u2028y"}, "invisible characters"),
    "joiner": ({"pii_principal_id": "x\u034f"}, "invisible characters"),
    "variation": ({"pii_principal_id": "x\ufe0f"}, "invisible characters"),
    "filler": ({"pii_principal_id": "x\u3164"}, "invisible characters"),
    "no action": ({"event_id": None}, "missing: event_id (a"),
    "no notice hash": ({"notice_hash": None}, "missing: notice_hash (a"),
    "hash": ({"notice_hash": "AB"}, "no SHA-256"),
    "type": ({"event_type": "agreed"}, "unknown event_type; one of given, refused"),
    "basis": ({"lawful_basis": "because"}, "unknown lawful_basis"),
    "duration": ({"validity_duration": "two years"}, "no ISO 8601 duration"),
    "flag": ({"minor": "maybe"}, "minor is neither"),
    "birthday": ({"birth_date": "1.2.1990"}, "birth_date is no date"),
    "shared": ({"withdrawal_method": None}, "missing: withdrawal_method (neither"),
    "control": ({"entity_id": "a\x07b"}, "control characters"),
    "mojibake": ({"party_name": "ÅŸube"}, "wrong encoding"),
    "erased": ({"event_type": "erased"}, "use `rights`"),
    "iys": ({"event_type": "iys_status"}, "iys_channel"),
}


LINES = {".csv": 3, ".parquet": 2, ".jsonld": 2}
"""The second record of a file: its line, or its place where there are no lines."""


@pytest.mark.parametrize("suffix", LINES)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_and_stops_nothing_else(
    store: ConsentStore, tmp_path: Path, case: str, suffix: str
) -> None:
    changes, reason = BAD[case]
    found = load(store, tmp_path, [row("a"), row("x", **changes), row("b")], suffix=suffix)
    assert found.new == 2
    [(line, _, said)] = found.refused.rows()
    assert line == LINES[suffix]
    assert reason in said
    found.write_report(tmp_path / "report.csv")
    assert reason in (tmp_path / "report.csv").read_text()
    assert found.reasons() == [(said, 1, line)]
    with pytest.raises(ConsentError, match="No record speaks of"):
        keeping.history(store, "x")


def test_everything_that_is_missing_is_said_at_once(store: ConsentStore, tmp_path: Path) -> None:
    lacking = row("a", privacy_rights=None, purpose_type=" ")
    bare = row("b", event_id=None, consent_text_hash=None)
    found = load(store, tmp_path, [lacking, bare])
    said = found.refused["reason"].to_list()
    assert said[0].startswith("missing: purpose_type, privacy_rights (neither in the row nor")
    assert said[1] == "missing: event_id, consent_text_hash (a consent needs each)"


def test_hashes_are_read_in_any_case(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("a")])
    again = load(store, tmp_path, [row("a", notice_hash=NOTICE.upper())])
    assert (again.new, again.known) == (0, 1)
    one_text = row("b", consent_text_hash=NOTICE.upper())
    assert "are one text" in load(store, tmp_path, [one_text]).refused["reason"][0]


def test_only_grants_take_shared_fields_from_the_settings(
    store: ConsentStore, tmp_path: Path
) -> None:
    load(store, tmp_path, [row("a")])
    keeping.withdraw(store, "a", now=NOW)
    export_file(store, tmp_path / "all.csv")
    options = {"purposes": (PURPOSE,), "now": NOW}
    defaults = settings(defaults={"privacy_rights": "branch"})
    again = import_file(store, tmp_path / "all.csv", settings=defaults, **options)
    assert (again.new, again.known) == (0, 2)


@pytest.mark.parametrize("suffix", LINES)
def test_one_action_for_two_purposes(store: ConsentStore, tmp_path: Path, suffix: str) -> None:
    options = {"settings": settings(purposes=("marketing",)), "suffix": suffix}
    both = [row("a"), row("a", purpose="marketing", record_id="r2")]
    found = load(store, tmp_path, both, **options)
    assert found.new == 0
    assert all("two purposes" in said for said in found.refused["reason"])
    assert load(store, tmp_path, both[:1], **options).new == 1
    found = load(store, tmp_path, both[1:], **options)
    assert "two purposes" in found.refused["reason"][0]


@pytest.mark.parametrize("suffix", LINES)
def test_one_action_for_the_notice_and_the_consent(
    store: ConsentStore, tmp_path: Path, suffix: str
) -> None:
    given = row("a", notice_shown_at=None)
    at = "2026-03-02T09:00:00+03:00"
    shown = given | {"record_id": "n", "event_type": "notice_shown", "event_time": at}
    found = load(store, tmp_path, [given, shown, row("b")], suffix=suffix)
    assert found.new == 1
    assert len(found.refused) == 2
    for said in found.refused["reason"]:
        assert "for the notice and the consent (Principle Decision 2026/347)" in said
    for first, second in ((row("c"), "c"), (shown | {"event_id": "click-d"}, "d")):
        assert load(store, tmp_path, [first], suffix=suffix).new == 1
        other = row("d") if second == "d" else shown | {"event_id": "click-c"}
        refused = load(store, tmp_path, [other], suffix=suffix).refused["reason"]
        assert "for the notice and the consent" in refused[0]
    apart = [given | {"event_id": "own"}, shown | {"event_id": "page"}]
    assert load(store, tmp_path, apart, suffix=suffix).new == 2


@pytest.mark.parametrize("suffix", LINES)
def test_a_withdrawal_before_the_consent(store: ConsentStore, tmp_path: Path, suffix: str) -> None:
    early = withdrawal("a", "2026-01-01T00:00:00+03:00")
    for rows in ([row("a"), early], [early]):
        found = load(store, tmp_path, rows, suffix=suffix)
        assert "before the consent" in found.refused["reason"][0]
    alone = load(store, tmp_path, [withdrawal("b")])
    assert alone.new == 1  # it may arrive before the consent that it takes back
    load(store, tmp_path, [row("b")])
    assert reasons(store) == [Reason.GIVEN, Reason.WITHDRAWN]


def test_turkish_letters_in_another_encoding_are_named(store: ConsentStore, tmp_path: Path) -> None:
    file = write(tmp_path / "consents.csv", [row("a"), row("b", party_name="Kadıköy Şubesi")])
    file.write_bytes(file.read_text(encoding="utf-8").encode("windows-1254"))
    found = import_file(store, file, purposes=(PURPOSE,), now=NOW)
    assert found.new == 1
    assert found.refused["line"].to_list() == [3]
    assert "Windows-1254 (Turkish), first in line 3" in found.refused["reason"][0]
    linked = write(tmp_path / "consents.jsonld", [row("c", party_name="Kadıköy Şubesi")])
    linked.write_bytes(linked.read_text(encoding="utf-8").encode("windows-1254"))
    with pytest.raises(ConsentError, match="no JSON in UTF-8"):
        import_file(store, linked, purposes=(PURPOSE,), now=NOW)
    assert counted(store) == 1


@pytest.mark.parametrize("suffix", LINES)
def test_an_oversized_file_is_refused_before_it_is_read(
    store: ConsentStore, tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(ConsentError, match=r"MiB; at most 0\.001 are read") as error:
        load(
            *(store, tmp_path, [row(f"p{n}") for n in range(50)]),
            settings=settings(max_file_mb=0.001),
            suffix=suffix,
        )
    assert "max_file_mb" in error.value.remedy
    assert counted(store) == 0


def test_ragged_lines_and_line_breaks_keep_their_numbers(
    store: ConsentStore, tmp_path: Path
) -> None:
    rows = [row("a", party_name="two\nlines"), row("b"), row("c", event_type="agreed")]
    found = load(store, tmp_path, rows)
    assert found.refused["line"].to_list() == [2, 5]
    file = tmp_path / "consents.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[3] + ",too,many", lines[3]]) + "\n")
    found = import_file(store, file, purposes=(PURPOSE,), now=NOW)
    assert found.refused["line"].to_list() == [2]
    assert found.known == 1


def test_parquet_keeps_its_types(store: ConsentStore, tmp_path: Path) -> None:
    table = pl.DataFrame([row("1"), row("2")]).with_columns(
        pii_principal_id=pl.Series([1, 2]),
        event_time=pl.Series([datetime(2026, 3, 2, 7, tzinfo=UTC)] * 2).dt.convert_time_zone(
            "Europe/Istanbul"
        ),
        minor=pl.Series([False, True]),
        unknown_column=pl.Series([1, 2]),
    )
    table.write_parquet(tmp_path / "c.parquet")
    found = import_file(store, tmp_path / "c.parquet", purposes=(PURPOSE,), now=NOW)
    assert (found.new, found.ignored) == (2, ("unknown_column",))
    assert reasons(store) == [Reason.GIVEN, Reason.MINOR]
    [first] = store.events("1").to_dicts()
    assert first["time"] == read_time("2026-03-02T10:00:00+03:00")[0]
    assert first["offset"] == 10_800
    naive = table.with_columns(pl.col("event_time").dt.replace_time_zone(None))
    naive.write_parquet(tmp_path / "c.parquet")
    found = import_file(store, tmp_path / "c.parquet", purposes=(PURPOSE,), now=NOW)
    assert len(found.refused) == 2


def test_what_is_no_file_of_consents(store: ConsentStore, tmp_path: Path) -> None:
    file = write(tmp_path / "consents.csv", [row("a")])
    small = settings(max_file_mb=0.0001)
    for path, options, words in (
        (file, {"settings": small}, "at most 0.0001"),
        (tmp_path / "absent.csv", {}, "cannot be read"),
        (write(tmp_path / "other.csv", [{"a": "b"}]), {}, "no column record_id.* Its columns: a"),
    ):
        with pytest.raises(ConsentError, match=words):
            import_file(store, path, purposes=(PURPOSE,), now=NOW, **options)
    for suffix, separators in (
        (".csv", "commas or semicolons"),
        (".tsv", "tabs"),
        (".parquet", ""),
    ):
        few = {"record_id": "1", "pii_principal_id": "a", "purpose": PURPOSE}
        few_columns = write(tmp_path / f"few{suffix}", [few])
        with pytest.raises(ConsentError) as error:
            import_file(store, few_columns, purposes=(PURPOSE,), now=NOW)
        assert error.value.cause.endswith(" Its columns: record_id, pii_principal_id, purpose.")
        assert ("first line" in error.value.remedy) == bool(separators)
        assert separators in error.value.remedy
        assert "docs/reference/consent.md" in error.value.remedy
    (tmp_path / "c.xlsx").write_text("x")
    (tmp_path / "c.jsonld").write_text("{")
    (tmp_path / "c.parquet").write_text("x")
    for name in ("c.xlsx", "c.jsonld", "c.parquet"):
        with pytest.raises(ConsentError) as error:
            import_file(store, tmp_path / name, purposes=(PURPOSE,), now=NOW)
        assert error.value.remedy
    assert counted(store) == 0


# --- a store that refuses -----------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("a")])

    @event.listens_for(store.engine, "connect")
    def _full(connection: Any, record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")

    store.engine.dispose()
    with pytest.raises(ConsentStoreError, match="full"):
        load(store, tmp_path, [row(f"p{n}") for n in range(5000)])
    assert counted(store) == 1
    store.close()
    store = ConsentStore.open(tmp_path)
    assert load(store, tmp_path, [row(f"p{n}") for n in range(5000)]).new == 5000
    store.close()


def test_a_locked_store_changes_nothing_and_can_still_be_read(tmp_path: Path) -> None:
    store = ConsentStore.open(tmp_path, busy=0.05)
    load(store, tmp_path, [row("a")])
    other = sqlite3.connect(tmp_path / STORE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConsentStoreError, match="locked"):
        load(store, tmp_path, [row("b")])
    assert reasons(store) == [Reason.GIVEN]
    other.execute("ROLLBACK")
    other.close()
    assert load(store, tmp_path, [row("b")]).new == 1
    store.close()


def test_a_read_only_store_changes_nothing(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("a")])

    @event.listens_for(store.engine, "connect")
    def _read_only(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    store.engine.dispose()
    with pytest.raises(ConsentStoreError, match="readonly"):
        load(store, tmp_path, [row("b")])
    assert counted(store) == 1


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConsentStoreError, match="there is no consent store"):
        ConsentStore.open(tmp_path, create=False)
    (tmp_path / STORE).write_text("spoilt " * 1000)
    with pytest.raises(ConsentStoreError) as error:
        ConsentStore.open(tmp_path)
    assert error.value.remedy
    for url in ("nonsense", f"sqlite:///{tmp_path}/other.sqlite"):  # without this store's pragmas
        with pytest.raises(ConsentStoreError, match="URL cannot be used"):
            ConsentStore.open(tmp_path, settings(url=url))


def test_an_erased_person_stays_erased(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("a"), row("b")])
    assert store.erase("a", NOW) == 1
    assert sorted(reasons(store)) == [Reason.GIVEN, Reason.ERASED]
    again = load(store, tmp_path, [row("a")])
    assert "erased" in again.refused["reason"][0]
    for path in tmp_path.glob(f"{STORE}*"):
        assert b"click-a" not in path.read_bytes()
    later = row("a", event_time="2026-06-02T00:00:00Z", event_id="click-2")
    assert load(store, tmp_path, [later], now=NOW + 2 * 86_400_000_000).new == 1


def test_a_consent_to_another_controller_is_none_here(store: ConsentStore, tmp_path: Path) -> None:
    """A group keeps its companies' consents in one file."""
    rows = [
        row("a", pii_controllers="Örnek Bank A.Ş."),
        row("b", pii_controllers="Örnek Sigorta A.Ş."),
        row("c", pii_controllers="Örnek Sigorta A.Ş.;  O\u0308rnek Bank A.S\u0327."),
        row("d", pii_controllers="Örnek Bank A.Ş. ve ortakları"),
        withdrawal("a"),
    ]
    own = settings(controllers=("Örnek Bank A.Ş.",))
    found = load(store, tmp_path, rows, settings=own)
    assert found.new == 3
    assert found.refused["record_id"].to_list() == ["r-b", "r-d"]
    assert set(found.refused["reason"].str.contains("it was given to others")) == {True}
    assert load(store, tmp_path, rows).new == 2  # where nobody said whose they are


TWICE = [
    '{"event_type": "withdrawn", "event_type": "given"}',
    '{"event_type": "withdrawn", "event": {"event_type": "given"}}',
    '{"event_type": "withdrawn", "tr-kvkk:event_type": "given"}',
]


@pytest.mark.parametrize("record", TWICE)
def test_a_record_that_states_a_field_twice_is_not_read(
    store: ConsentStore, tmp_path: Path, record: str
) -> None:
    (tmp_path / "c.jsonld").write_text(f"[{record}]")
    with pytest.raises(ConsentError, match="'event_type' stands twice"):
        import_file(store, tmp_path / "c.jsonld", purposes=(PURPOSE,))


def test_lists_in_lists_are_refused(store: ConsentStore, tmp_path: Path) -> None:
    (tmp_path / "c.jsonld").write_text('[{"purpose": ' + "[" * 900 + "]" * 900 + "}]")
    with pytest.raises(ConsentError, match=r"c\.jsonld: "):
        import_file(store, tmp_path / "c.jsonld", purposes=(PURPOSE,))
