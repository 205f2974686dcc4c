"""`kesit client consent`, `attest`: as a member's officer uses them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_client_cli import Federation

from clikit import Kesit, edit
from consentkit import Attesting, Place, lasting, withdrawal, write
from kesit_cli import exits
from kesit_client.consent.settings import STORE
from kesit_client.consent.witness import CAUTION, WITNESS
from kesit_client.home import BOOKS, IDENTITY, STUDIES
from kesit_client.owner.policy import Policy
from kesit_privacy.attestation import read_attestation
from kesit_privacy.identity import fingerprint
from kesit_privacy.segment_file import SEGMENTS
from kesit_privacy.study_file import load_study
from kit import keep_books, random_codes, study_tables
from segmentkit import released


@pytest.fixture
def member(kesit: Kesit, monkeypatch: pytest.MonkeyPatch) -> Kesit:
    """Ankara, whose policy requires consents."""
    monkeypatch.delenv("KESIT_PASSPHRASE", raising=False)
    Federation(kesit).ready()
    policy = Path("Ankara/policy.toml")
    policy.write_text(f'consent = "required"\n{policy.read_text()}')
    return kesit


HOME = ("--home", "Ankara")


def consent(kesit: Kesit, *arguments: str, code: int = exits.OK) -> str:
    """What a command prints."""
    done = kesit("client", "consent", *arguments, *HOME)
    assert done.code == code, done.err + done.out
    return done.out + done.err


def test_from_import_to_withdrawal(member: Kesit, tmp_path: Path) -> None:
    failed = member("client", "check", *HOME)
    assert failed.code == exits.DATA
    assert re.search("^FAIL +consent ", failed.out, re.MULTILINE)
    rows = [lasting(f"c{n}") for n in range(30)] + [lasting("bad", event_type="agreed")]
    write(tmp_path / "consents.csv", rows)
    out = consent(member, "import", "consents.csv", "--report", "refused.csv", code=exits.DATA)
    assert re.search(r"New +30 events", out)
    assert "unknown event_type" in out
    assert (tmp_path / "refused.csv").read_text().count("\n") == 2
    assert re.search(r"given +30", consent(member, "status"))
    assert "30 of 30 persons count" in consent(member, "check")
    assert re.search(r"Withdrawn +customer-segmentation", consent(member, "withdraw", "c3"))
    assert "withdrawn" in consent(member, "history", "c3")
    assert re.search(r"withdrawn +1\n", consent(member, "status"))
    assert "No record speaks of" in consent(member, "history", "nobody", code=exits.DATA)
    assert "gave nothing for" in consent(
        member, "withdraw", "c4", "--purpose", "marketing", code=exits.DATA
    )


def test_a_restored_store_counts_nobody_until_its_owner_says_so(
    member: Kesit, tmp_path: Path
) -> None:
    write(tmp_path / "consents.csv", [lasting(f"c{n}") for n in range(4)])
    consent(member, "import", "consents.csv")
    shutil.copy(f"Ankara/{STORE}", "backup")
    consent(member, "withdraw", "c3")
    shutil.copy("backup", f"Ankara/{STORE}")
    failed = consent(member, "check", code=exits.DATA)
    assert re.search("^FAIL +consent ", failed, re.MULTILINE)
    assert "looks restored" in failed
    ids = ("exports", "filter", "--ids", "all.txt", "--purpose", "customer-segmentation")
    Path("all.txt").write_text("c2\nc3\n")
    refused = member("client", *ids, "--out", "out.txt", *HOME)
    assert refused.code == exits.DATA
    assert not Path("out.txt").exists()
    write(tmp_path / "since.csv", [withdrawal("c3")])
    assert "looks restored" in consent(member, "import", "since.csv")
    asked = consent(member, "accept-restored", code=exits.SETTINGS)
    assert "looks restored" in asked
    assert "count again" in consent(member, "accept-restored", "--yes")
    assert "as it was left" in consent(member, "accept-restored", "--yes")
    assert "withdrawn" in member("client", *ids, "--out", "out.txt", *HOME).out
    assert Path("out.txt").read_text() == "c2\n"


def test_a_restored_store_answers_with_a_caution_on_top(member: Kesit, tmp_path: Path) -> None:
    def top(*arguments: str, code: int = exits.OK) -> list[str]:
        done = member("client", *arguments, *HOME)
        assert done.code == code, done.err + done.out
        return (done.out or done.err).splitlines()

    def told() -> list[list[str]]:
        report = ("rights", "report", "c3")
        history = ("consent", "history", "c3")
        return [
            *(top(*report, "--language", name)[:1] for name in ("en", "tr")),
            *(top(*asked)[:2] for asked in (("consent", "status"), history)),
        ]

    write(tmp_path / "consents.csv", [lasting(f"c{n}") for n in range(4)])
    consent(member, "import", "consents.csv")
    shutil.copy(f"Ankara/{STORE}", "backup")
    consent(member, "withdraw", "c3")
    cautions = list(CAUTION.values())
    assert all("accept-restored" in text for text in cautions)
    assert not any(text in lines for lines in told() for text in cautions)
    top("rights", "report", "c3", "--out", "whole.json")
    assert json.loads(Path("whole.json").read_text(encoding="utf-8"))["looks_restored"] is None
    shutil.copy("backup", f"Ankara/{STORE}")
    english, turkish = CAUTION["en"], CAUTION["tr"]
    assert told() == [[english], [turkish], [english, turkish], [english, turkish]]
    assert top("rights", "report", "c3", "--out", "report.json")[:2] == [english, turkish]
    said = json.loads(Path("report.json").read_text(encoding="utf-8"))["looks_restored"]
    assert (said["en"], said["tr"]) == (english, turkish)
    assert "changes" in said["why"]
    top("rights", "report", "c3", "--out", "report.txt", "--language", "tr")
    assert Path("report.txt").read_text(encoding="utf-8").startswith(f"{turkish}\n\nHakkınızda")
    lost = " ".join(" ".join(top("rights", "report", "nobody", code=exits.DATA)).split())
    assert "looks like an older copy" in lost  # the newer store may have known the person
    consent(member, "accept-restored", "--yes")
    assert not any(text in lines for lines in told() for text in cautions)


def test_ids_that_differ_from_the_source_s_are_seen(member: Kesit, tmp_path: Path) -> None:
    source = Path("Ankara/customers.csv")
    features = ",".join(Policy.load(Path("Ankara/policy.toml")).features)
    blank = "," * features.count(",")
    source.write_text(f"no,{features}\n" + "".join(f"{n},{blank}\n" for n in range(1, 5)))
    Path("Ankara/source.toml").write_text('path = "customers.csv"\nid_column = "no"\n')
    write(tmp_path / "consents.csv", [lasting(f"{n:05d}") for n in range(1, 4)])
    # What makes the source's ids known to the store is no consent record of theirs.
    Path("ids.txt").write_text("1\n2\n3\n4\n")
    given = member("client", "exports", "add", "Call centre", "--ids", "ids.txt", *HOME)
    assert given.code == exits.OK, given.err
    asked = ("rights", "open", "objection", "--person", "1", "--purpose", "customer-segmentation")
    assert member("client", *asked, *HOME).code == exits.OK
    assert member("client", "rights", "open", "erasure", "--person", "2", *HOME).code == exits.OK
    assert member("client", "rights", "close", "2", *HOME).code == exits.OK
    consent(member, "import", "consents.csv")
    told = consent(member, "check")
    assert re.search(r"^WARN +consent +0 of the source's 4 customers", told, re.MULTILINE), told
    write(tmp_path / "consents.csv", [lasting(f"{n}") for n in (1, 3, 4)])
    consent(member, "import", "consents.csv")
    told = consent(member, "check")
    assert re.search(r"^OK +consent +3 of the source's 4 customers", told, re.MULTILINE), told


def test_requests_are_opened_closed_and_due(member: Kesit, tmp_path: Path) -> None:
    def rights(*arguments: str, code: int = exits.OK) -> str:
        done = member("client", *arguments, *HOME)
        assert done.code == code, done.err + done.out
        return done.out + done.err

    write(tmp_path / "consents.csv", [lasting("00042")])
    consent(member, "import", "consents.csv")
    assert "none was noted within six months" in rights("rights", "due")
    rights("dispose", "--yes")
    assert rights("rights", "due") == "nothing is late, or due within 7 days\n"
    rights("rights", "open", "transfer-notification")
    assert re.search(r"^ 1  transfer-notification ", rights("rights", "list"), re.MULTILINE)
    (tmp_path / "ids.txt").write_text("00042\n")
    rights("exports", "add", "Çağrı merkezi", "--ids", "ids.txt")
    rights("rights", "open", "erasure", "--person", "00042")
    rights("rights", "close", "2")
    told = rights("rights", "due", "--days", "0")
    assert "Notice 1     Çağrı merkezi has not acknowledged: erasure" in told
    assert "1 is acknowledged" in rights("exports", "acknowledge", "1")
    typo = ("rights", "open", "objection", "--person", "7", "--purpose", "marketting")
    assert "customer-segmentation" in rights(*typo, code=exits.DATA)
    assert not re.search(r"^ *2  ", rights("rights", "list"), re.MULTILINE)


def test_only_who_may_have_a_segment_code_has_one(member: Kesit, tmp_path: Path) -> None:
    """Four consents, of which one is withdrawn and one person objects: two have a code."""
    edit(Path("study.toml"), '"contract"', '"explicit-consent"')
    study = load_study(Path("study.toml"))
    folder = tmp_path / "result"
    folder.mkdir()
    released(study, random_codes(study, 4000), folder)
    people = ["c3", "c4", "c5", "c6"]
    rows = [*map(lasting, people), withdrawal("c3")]
    consent(member, "import", str(write(tmp_path / "consents.csv", rows)))
    objection = ("rights", "open", "objection", "--person", "c4", "--purpose", study.purpose)
    assert member("client", *objection, *HOME).code == exits.OK

    def segment(*arguments: str, code: int = exits.OK) -> str:
        done = member("client", "segment", "result", *arguments, *HOME)
        assert done.code == code, done.err + done.out
        return " ".join((done.out + done.err).split())

    given = ("--out", "codes.csv", "--recipient", "Call centre", "--language", "tr")
    assert "only simulated" in segment(*given, code=exits.SETTINGS)
    assert not (tmp_path / "codes.csv").exists()
    edit(folder / SEGMENTS, '"releasable": false', '"releasable": true')
    told = segment(*given)
    assert "597 without a ground" in told
    assert "1 with an open objection" in told
    assert "Call centre, 2 persons" in told
    written = pl.read_csv(tmp_path / "codes.csv")
    assert written["no"].to_list() == ["c5", "c6"]
    names = {card["segment"]: card["name"]["tr"] for card in _segments(folder)}
    assert [names[number] for number in written["segment"]] == written["name"].to_list()
    consent(member, "withdraw", "c5")
    shown = member("client", "exports", "list", *HOME).out
    assert re.search(r"segment codes", shown), shown
    segment("--out", "later.parquet")
    assert pl.read_parquet(tmp_path / "later.parquet")["no"].to_list() == ["c6"]
    assert "unknown format" in segment("--out", "codes.xlsx", code=exits.DATA)
    assert not (tmp_path / "codes.xlsx").exists()

    def explain(person: str, *more: str, code: int = exits.OK) -> str:
        done = member("client", "explain", "result", person, *more, *HOME)
        assert done.code == code, done.err + done.out
        return " ".join((done.out + done.err).split())

    assert "has no ground for 'customer-segmentation' now" in explain("c3", code=exits.DATA)
    assert "a human must answer it, and no code may be used" in explain("c4")
    told = explain("c6")
    assert "Objection" not in told
    assert all(feature.name in told for feature in study.features)
    turkish = explain("c6", "--language", "tr")
    assert "özellik değer sonraki segmente karşı desteği" in turkish
    assert any(name in turkish for name in names.values())
    assert "açık: bir insan yanıtlamalı; kod kullanılamaz" in explain("c4", "--language", "tr")


def _segments(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / SEGMENTS).read_bytes())["segments"]
    return found


@pytest.mark.parametrize("name", ["all.csv", "all.parquet", "all.jsonld"])
def test_an_export_is_imported_as_it_was(member: Kesit, tmp_path: Path, name: str) -> None:
    rows = [
        lasting("Ayşe", birth_date="1990-02-28", minor=None),
        lasting("b", minor="false", special_categories="true", special_category_ground="6(3)(a)"),
        withdrawal("b"),
    ]
    write(tmp_path / "consents.csv", rows)
    consent(member, "import", "consents.csv")
    consent(member, "export", name)
    again = consent(member, "import", name)
    assert re.search(r"New +0 events", again)
    assert re.search(r"Known +3 ", again)
    assert "exists already" in consent(member, "export", name, code=exits.DATA)
    one = consent(member, "export", f"one-{name}", "--person", "Ayşe")
    assert re.search(r"Events +1\n", one)
    if name.endswith("jsonld"):
        graph = json.loads((tmp_path / name).read_text())["@graph"]
        assert graph[0]["event_type"] == "dpv:ConsentGiven"
        assert graph[0]["lawful_basis"] == "tr-kvkk:A5-1-ExplicitConsent"


def test_a_run_is_attested_and_proved(member: Kesit, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    setting = Attesting(tmp_path / "run")
    home = Path("Ankara")
    keep_books(setting.node, home / BOOKS)
    setting.node.attest = None
    run = setting.run()
    for name in (STORE, WITNESS, "consent-runs"):
        source, target = setting.place.home / name, home / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (home / IDENTITY).unlink()
    setting.node.identity.save(home / IDENTITY)
    (home / STUDIES / "s.toml").write_text(_toml(setting.place))
    setting.node.store.close()
    attested = member("client", "attest", run[:12], *HOME)
    assert attested.code == exits.OK, attested.err
    statement = read_attestation((home / "attestations" / f"{run}.json").read_bytes())
    assert statement.rule_pack is not None  # as at the end of a run: no verdict is left out
    assert statement.verdicts
    told = consent(member, "prove", "p3", "--run", run, "--out", "proof.json")
    assert re.search(r"Decision +included", told)
    verify = ("client", "consent", "verify", "proof.json", f"Ankara/attestations/{run}.json")
    held = member(*verify, "--member", fingerprint(setting.node.me))
    assert held.code == exits.OK, held.err
    assert re.search(r"Holds +included", held.out)
    assert member(*verify, "--member", "ab" * 16).code == exits.FEDERATION
    proof = Path("proof.json")
    proof.write_text(proof.read_text().replace("included", "excluded"))
    assert member(*verify, "--member", fingerprint(setting.node.me)).code == exits.FEDERATION
    assert member("client", "attest", "ab" * 16, *HOME).code == exits.SETTINGS


def _toml(place: Place) -> str:
    """The study of `mixed_study` as a file."""
    tables = study_tables(features=[])
    lines = [f"{k} = {json.dumps(v)}" for k, v in tables.items() if not isinstance(v, dict | list)]
    lines.append(f"segmentation = {{ k = {tables['segmentation']['k']} }}")
    for feature in place.study.features:
        lines.append("[[features]]")
        for key, value in vars(feature).items():
            if value is not None and not key.startswith("_"):
                lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"
