"""Packs are data, read strictly; attestations are read strictly, too; docs and packs agree."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

import pytest

import kit as studies
from kesit_privacy.errors import KesitError
from kesit_privacy.rules import (
    Place,
    RulesError,
    load_pack,
    load_records,
    member_places,
    pack_names,
    policy_facts,
    read_pack,
)
from kesit_privacy.rules.catalogue import CATALOGUE
from kesit_privacy.rules.checks.attested import later
from kesit_privacy.rules.listing import markdown
from kesit_privacy.rules.named import COUNTS, FLAGS, LABELS, MEASURES, value_of
from rulekit import good

ROOT = Path(__file__).resolve().parents[2]

PACK = """
id = "test"
version = "1.0"
jurisdiction = { en = "Nowhere", tr = "Hiçbir yer" }

[sources.law]
dated = 2020-01-01
name = { en = "A law", tr = "Bir kanun" }

[[rules]]
id = "T-1"
subject = "consent"
severity = "blocking"
needs_counsel = false
source = "law"
article = { en = "Law art. 1", tr = "Kanun m. 1" }
duty = { en = "Do it.", tr = "Yapın." }
remedy = { en = "Then do it.", tr = "O hâlde yapın." }
check = "count-is-zero"
params = { fact = "consents.needless" }
"""


def test_a_pack_of_ones_own_is_read() -> None:
    pack = read_pack(PACK, "mine")
    assert pack.name == f"test 1.0 ({pack.hash[:16]})"
    assert pack.sources["law"].dated == datetime.date(2020, 1, 1)


def test_the_hash_covers_values_and_not_how_they_are_written() -> None:
    pack = read_pack(PACK, "mine")
    commented = "# a comment\n" + PACK.replace("T-1", "T-1")
    assert read_pack(commented, "mine").hash == pack.hash
    for old, new in (
        ("Yapın.", "Yapınız."),
        ("blocking", "advice"),
        ("1.0", "1.1"),
        ("consents.needless", "consents.same_text"),
        ("2020-01-01", "2020-01-02"),
    ):
        assert read_pack(PACK.replace(old, new), "mine").hash != pack.hash
    assert len({load_pack(name).hash for name in pack_names()}) == len(pack_names())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"count-is-zero"', '"count-is-nought"', "rule T-1: there is no check"),
        ('tr = "Yapın."', 'de = "Mach es."', "rule T-1: duty.de"),
        (', tr = "Yapın." }', " }", "rule T-1: duty.tr"),
        ('"O hâlde yapın."', '""', "rule T-1: remedy.tr"),
        ("consents.needless", "consents.needles", "rule T-1: params: "),
        ("consents.needless", "rows_age_days", "rule T-1: params: "),
        ('{ fact = "consents', '{ limit = 3, fact = "consents', "rule T-1: params: limit"),
        ('params = { fact = "consents.needless" }', "", "rule T-1: params: fact"),
        ('"consent"\nsev', '"wish"\nsev', "rule T-1: subject"),
        ('"blocking"', '"fatal"', "rule T-1: severity"),
        ("needs_counsel = false\n", "", "rule T-1: needs_counsel"),
        ("needs_counsel = false", 'needs_counsel = "no"', "rule T-1: needs_counsel"),
        ('check = "count', 'when = "maybe"\ncheck = "count', "rule T-1: there is no condition"),
        ('check = "count', 'profile = "shop"\ncheck = "count', "rule T-1: profile"),
        ('source = "law"', 'source = "lore"', "rule T-1: there is no source"),
        ('id = "T-1"\n', "", "rule number 1: id"),
        ("article =", "artikel =", "rule T-1: artikel"),
        ('version = "1.0"\n', "", "version"),
        ('version = "1.0"', 'version = "one"', "version"),
        ('id = "test"', 'id = "test"\nhash = "00"', "hash is computed"),
        ('id = "test"', 'id = "test"\nlawyer = "me"', "lawyer"),
        ("dated = 2020-01-01", 'dated = "soon"', "sources.law.dated"),
        ("[[rules]]", "[[rules]", "is not TOML"),
        ("[[rules]]", "[[regeln]]", "regeln"),
    ],
)
def test_a_broken_pack_is_one_clear_error(old: str, new: str, said: str) -> None:
    assert old in PACK
    with pytest.raises(RulesError) as caught:
        read_pack(PACK.replace(old, new, 1), "mine")
    studies.broken(caught)
    assert caught.value.cause.startswith("mine: ")
    assert said in caught.value.cause


def test_a_calendar_that_nobody_keeps_is_refused() -> None:
    checked = PACK.replace("count-is-zero", "iys-fresh")
    broken = checked.replace('fact = "consents.needless"', 'days = 3, calendar = "XX"')
    with pytest.raises(RulesError, match="no public holidays are known of 'XX'"):
        read_pack(broken, "mine")


def test_a_rule_that_stands_twice_is_refused() -> None:
    start = PACK.index("[[rules]]")
    with pytest.raises(RulesError, match="rule T-1 stands twice"):
        read_pack(PACK + PACK[start:], "mine")


def test_an_unknown_pack_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RulesError, match="no rule pack called 'moon'") as caught:
        load_pack("moon")
    assert "gdpr, kvkk" in caught.value.remedy


def test_every_check_is_used_and_every_fact_can_be_named() -> None:
    used = {rule.check for name in pack_names() for rule in load_pack(name).rules}
    assert used == set(CATALOGUE)
    named = {str(rule.params.get("fact")) for n in pack_names() for rule in load_pack(n).rules}
    named |= {"consents.withdrawn", "rows_kept_days", "release.audit_passed"}  # read otherwise
    assert named - {"None"} == set(LABELS)
    assert len(LABELS) == len(COUNTS) + len(MEASURES) + len(FLAGS)
    facts = good()
    assert all(value_of(facts, key) is not None for key in LABELS)


@pytest.mark.parametrize("name", pack_names())
def test_the_reference_shows_the_pack_as_it_is(name: str) -> None:
    text = (ROOT / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")
    assert markdown(load_pack(name)) in text


def test_the_reference_explains_every_field_of_the_records_and_every_check() -> None:
    text = (ROOT / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")
    for check in CATALOGUE:
        assert f"| `{check}` |" in text, check
    for key in ("attestations", "places", "recipients", "incidents"):
        assert f"[[{key}]]" in text


@pytest.mark.parametrize(
    ("day", "months", "then"),
    [
        ((2026, 1, 31), 1, (2026, 2, 28)),
        ((2024, 2, 29), 12, (2025, 2, 28)),
        ((2026, 8, 31), 6, (2027, 2, 28)),
        ((2026, 12, 1), 1, (2027, 1, 1)),
        ((2026, 6, 15), 24, (2028, 6, 15)),
    ],
)
def test_months_end_on_their_last_day(
    day: tuple[int, int, int], months: int, then: tuple[int, int, int]
) -> None:
    assert later(datetime.date(*day), months) == datetime.date(*then)


# --- Records --------------------------------------------------------------------------------

RECORDS = f"""
recipients = []

[[attestations]]
kind = "impact-assessment"
name = "Ayşe Yılmaz"
role = "data protection officer"
date = 2026-03-02
sha256 = "{hashlib.sha256(b"text").hexdigest()}"
file = "dpia.txt"
expires = 2027-03-02

[[places]]
name = "server"
region = "TR"

[[places]]
name = "Berlin"
region = "DE"
basis = "standard-contract"
signed = 2026-01-05
notified = 2026-01-09

[[incidents]]
name = "lost laptop"
known_at = 2026-03-02T08:00:00+03:00
"""


def records(folder: Path, text: str, document: bytes = b"text") -> Path:
    (folder / "dpia.txt").write_bytes(document)
    path = folder / "attestations.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_records_are_read_and_the_document_compared(tmp_path: Path) -> None:
    found = load_records(records(tmp_path, RECORDS))
    (word,) = found.attestations
    assert (word.name, word.date) == ("Ayşe Yılmaz", datetime.date(2026, 3, 2))
    assert found.recipients == ()
    assert found.places is not None
    assert found.places[1].notified == datetime.date(2026, 1, 9)
    assert found.incidents is not None
    assert found.incidents[0].notified_at is None
    empty = load_records(records(tmp_path, ""))
    assert (empty.places, empty.recipients, empty.incidents) == (None, None, None)


def test_the_age_of_the_rows_is_counted_from_the_records(tmp_path: Path) -> None:
    text = "rows_updated = 2026-03-01\nrows_since = 2025-09-01\n"
    found = load_records(records(tmp_path, text))
    today = datetime.date(2026, 3, 11)
    assert found.rows_days(today) == (10, 191)
    assert found.rows_days(datetime.date(2026, 2, 1)) == (None, 153)
    assert load_records(records(tmp_path, "")).rows_days(today) == (None, None)


def test_another_document_than_the_attested_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="is not the document that Ayşe Yılmaz attested"):
        load_records(records(tmp_path, RECORDS, b"another"))
    path = records(tmp_path, RECORDS)
    (tmp_path / "dpia.txt").unlink()
    with pytest.raises(RulesError, match="cannot be read"):
        load_records(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("role =", "rank =", "attestations.0.rank"),
        ('name = "Ayşe Yılmaz"\n', "", "attestations.0.name"),
        ("date = 2026-03-02", 'date = "yesterday"', "attestations.0.date"),
        ('sha256 = "', 'sha256 = "0', "attestations.0.sha256"),
        ('region = "DE"', 'region = "Germany"', "places.1.region"),
        ("standard-contract", "handshake", "places.1.basis"),
        ("T08:00:00+03:00", "T08:00:00", "incidents.0.known_at"),
        ("recipients = []", "receivers = []", "receivers"),
        ("recipients = []", "recipients = [", "cannot be read"),
    ],
)
def test_broken_records_are_refused_by_the_name_of_the_field(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in RECORDS
    with pytest.raises(KesitError) as caught:
        load_records(records(tmp_path, RECORDS.replace(old, new, 1)))
    assert isinstance(caught.value, RulesError)
    assert said in caught.value.cause


def test_missing_records_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="cannot be read"):
        load_records(tmp_path / "none.toml")


def test_places_without_a_member_list_are_the_recorded_ones_and_the_server() -> None:
    assert member_places(None, None) is None
    recorded = [Place("Berlin", "DE")]
    assert member_places(None, recorded) == (Place("server"), Place("Berlin", "DE"))


def test_a_policy_is_taken_as_plain_values() -> None:
    class Owner:
        purposes = ("a",)
        features = ("x", "y")

    assert policy_facts(Owner()).features == ("x", "y")


@pytest.mark.parametrize("entry", ['[[places]]\nname = "Berlin"', "[[incidents]]"])
def test_an_entry_that_hides_another_of_its_name_is_refused(tmp_path: Path, entry: str) -> None:
    """The second would be looked at, and not the first."""
    added = {
        "[[incidents]]": '\n[[incidents]]\nname = "lost laptop"\n'
        "known_at = 2026-06-02T08:00:00+03:00\n"
    }.get(entry, f"\n{entry}\n")
    with pytest.raises(RulesError, match="stands twice"):
        load_records(records(tmp_path, RECORDS + added))
