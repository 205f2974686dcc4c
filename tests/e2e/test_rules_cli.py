"""`kesit study rules` and `kesit client rules`, as a compliance officer uses them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from clikit import POLICY, Kesit, Outcome, edit
from kesit_cli import exits
from kesit_privacy.keyfiles import PASSPHRASE, PASSPHRASE_FILE
from kesit_privacy.rules import load_pack
from kesit_privacy.study_file import load_study

TAGGED = 'upper = 90\ntags = ["profiling"]\n'
PLACES = """
recipients = []
incidents = []

[[places]]
name = "server"
region = "TR"

[[places]]
name = "Ankara"
region = "TR"
"""


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)


@pytest.fixture
def home(kesit: Kesit, shop: Path) -> Path:
    """A member's folder that has joined a federation of one."""
    made = kesit("server", "init", "--home", "server", "--host", "kesit.example.org")
    shown = coordinator(made)
    member = kesit("client", "init", "Ankara", "--home", "ankara")
    told = ("--yes", "--fingerprint", coordinator(member))
    request = str(shop / "ankara" / "request.json")
    assert kesit("server", "admit", request, "--home", "server", *told).code == exits.OK
    join = ("client", "join", "server/members.json", "--home", "ankara", "--coordinator", shown)
    assert kesit(*join).code == exits.OK
    (shop / "ankara" / "policy.toml").write_text(POLICY)
    return shop / "ankara"


def coordinator(outcome: Outcome) -> str:
    assert outcome.code == exits.OK, outcome.err
    found = re.search(r"^Fingerprint +(.+)$", outcome.out, re.MULTILINE)
    assert found
    return found[1]


def by_rule(outcome: Outcome, report: int = 0) -> dict[str, dict[str, Any]]:
    """Findings of a `--json` by their rule."""
    found = json.loads(outcome.out)["reports"][report]["findings"]
    return {finding["rule"]: finding for finding in found}


def test_what_a_study_does_not_say_is_inconclusive_and_stops_nothing(
    kesit: Kesit, shop: Path
) -> None:
    shown = kesit("study", "rules", "study.toml")
    assert shown.code == exits.OK, shown.err
    assert load_study(shop / "study.toml").hash[:16] in shown.out
    assert load_pack("kvkk").name in shown.out
    assert re.search(r"^INCONCLUSIVE +KVKK-6-GROUND ", shown.out, re.MULTILINE)
    assert not re.search(r"^FAIL +[A-Z]", shown.out, re.MULTILINE)
    assert "no legal advice" in shown.out
    assert "--profile): BANK-PSEUDONYMS, BANK-RULES" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    assert not re.search(r"\([a-z`]+-[a-z]*\n", shown.out)  # kinds are not cut
    assert re.search(r"^ +Law 6698 art. 6\(3\) ", shown.out, re.MULTILINE)


def test_a_blocking_failure_comes_first_and_is_the_exit_code(kesit: Kesit, shop: Path) -> None:
    edit(shop / "study.toml", "upper = 90\n", TAGGED)
    shown = kesit("study", "rules", "study.toml")
    assert shown.code == exits.SETTINGS
    verdicts = re.findall(
        r"^(FAIL|INCONCLUSIVE|NEEDS COUNSEL|PASS) +[A-Z]", shown.out, re.MULTILINE
    )
    order = ["FAIL", "INCONCLUSIVE", "NEEDS COUNSEL", "PASS"]
    assert verdicts == sorted(verdicts, key=order.index)
    assert set(verdicts) >= {"FAIL", "INCONCLUSIVE", "PASS"}
    assert "Blocking rules that fail: KVKK-PROFILE-GROUND, LOYALTY" in shown.out
    found = by_rule(kesit("study", "rules", "study.toml", "--json"))
    assert found["LOYALTY"]["to_do"] == "Split profiling from membership, and rest it on" + (
        " explicit consent."
    )


def test_the_table_speaks_turkish(kesit: Kesit, shop: Path) -> None:
    edit(shop / "study.toml", "upper = 90\n", TAGGED)
    shown = kesit("study", "rules", "study.toml", "--language", "tr")
    assert shown.code == exits.SETTINGS
    for text in ("AYKIRI", "BELİRSİZ", "UYGUN", "sonuç", "yapılacak", "Engelleyen kurallar"):
        assert text in shown.out
    assert "hukuki görüş değildir" in shown.out
    assert "Not known" not in shown.out
    found = by_rule(kesit("study", "rules", "study.toml", "--language", "tr", "--json"))
    loyalty = found["LOYALTY"]["found"]
    assert loyalty == "Çalışmanın işleme şartı: sözleşmenin kurulması veya ifası (contract)."


def test_json_is_all_of_stdout_and_names_the_pack(kesit: Kesit, shop: Path) -> None:
    shown = kesit("study", "rules", "study.toml", "--pack", "gdpr", "--json", "--profile", "bank")
    told = json.loads(shown.out)
    assert told["pack"] == {
        "id": "gdpr",
        "version": load_pack("gdpr").version,
        "hash": load_pack("gdpr").hash,
    }
    assert told["language"] == "en"
    assert not told["blocked"]
    assert len(told["reports"][0]["findings"]) == len(load_pack("gdpr").rules)
    assert {f["verdict"] for f in by_rule(shown).values()} == {"INCONCLUSIVE", "NEEDS COUNSEL"}


def test_records_are_looked_at(kesit: Kesit, shop: Path) -> None:
    (shop / "records.toml").write_text(PLACES)
    with_them = ("study", "rules", "study.toml", "--attestations", "records.toml", "--json")
    found = by_rule(kesit(*with_them))
    for rule in ("KVKK-9-BASIS", "KVKK-9-NOTIFY", "KVKK-12-BREACH"):
        assert found[rule]["verdict"] == "PASS", rule
    edit(
        shop / "records.toml", '"Ankara"\nregion = "TR"', '"Ankara"\nregion = "DE"\nbasis = "none"'
    )
    refused = kesit(*with_them)
    assert refused.code == exits.SETTINGS
    assert by_rule(refused)["KVKK-9-BASIS"]["verdict"] == "FAIL"
    edit(shop / "records.toml", "incidents", "accidents")
    broken = kesit(*with_them)
    assert broken.code == exits.SETTINGS
    assert "accidents: is not a field that is known here" in broken.said
    missing = kesit("study", "rules", "study.toml", "--attestations", "none.toml")
    assert missing.code == exits.SETTINGS
    assert "cannot be read" in missing.said
    assert "Check the path" in missing.said
    (shop / "records.toml").write_text("[[attestations]]\ndate = 02.03.2026\n")
    assert "a day is written 2026-03-02" in kesit(*with_them).said


def test_an_attestation_for_which_no_rule_asks_is_named(kesit: Kesit, shop: Path) -> None:
    entry = f'''[[attestations]]
kind = "impact-assesment"
name = "Ayşe Yılmaz"
role = "officer"
date = 2026-03-02
sha256 = "{"ab" * 32}"
'''
    (shop / "records.toml").write_text(entry, encoding="utf-8")
    with_it = ("study", "rules", "study.toml", "--attestations", "records.toml")
    assert "for which no rule asks: impact-assesment\n" in kesit(*with_it).out
    edit(shop / "records.toml", "impact-assesment", "impact-assessment")
    told = by_rule(kesit(*with_it, "--json"))["AI-REC-IMPACT"]["found"]
    assert told.endswith("One for another study, or for none, does not count.")
    study = load_study(shop / "study.toml").hash
    edit(shop / "records.toml", "date = 2026-03-02", f'study = "{study}"\ndate = 2999-03-02')
    told = by_rule(kesit(*with_it, "--json"))["AI-REC-IMPACT"]["found"]
    assert told.endswith("One that is dated in the future does not count yet.")
    edit(shop / "records.toml", "impact-assessment", "impact-assesment")
    assert "istemediği beyanlar: impact-assesment\n" in kesit(*with_it, "--language", "tr").out


def test_a_member_is_looked_at_with_its_policy_and_its_list(
    kesit: Kesit, shop: Path, home: Path
) -> None:
    rules = ("client", "rules", "study.toml", "--home", "ankara", "--json")
    found = by_rule(kesit(*rules))
    assert found["KVKK-4-PURPOSE"]["verdict"] == "PASS"
    assert found["KVKK-4-FEATURES"]["verdict"] == "PASS"
    # The member list says who there is, but not where.
    assert found["KVKK-9-BASIS"]["verdict"] == "INCONCLUSIVE"
    assert "Ankara" in found["KVKK-9-BASIS"]["found"]
    (home / "attestations.toml").write_text(PLACES)
    assert by_rule(kesit(*rules))["KVKK-9-BASIS"]["verdict"] == "PASS"
    other = (*rules, "--attestations", str(shop / "other.toml"))
    (shop / "other.toml").write_text("")
    assert by_rule(kesit(*other))["KVKK-9-BASIS"]["verdict"] == "INCONCLUSIVE"
    edit(home / "policy.toml", '"customer-segmentation"', '"fraud"')
    refused = kesit(*rules)
    assert refused.code == exits.SETTINGS
    assert by_rule(refused)["KVKK-4-PURPOSE"]["verdict"] == "FAIL"


def test_without_a_study_each_approved_copy_is_looked_at(
    kesit: Kesit, shop: Path, home: Path
) -> None:
    none = kesit("client", "rules", "--home", "ankara", "--json")
    assert none.code == exits.OK, none.err
    assert json.loads(none.out)["reports"][0]["study"] is None
    (home / "studies").mkdir(exist_ok=True)
    text = (shop / "study.toml").read_text()
    (home / "studies" / "one.toml").write_text(text)
    (home / "studies" / "two.toml").write_text(
        text.replace("Small shop", "Anonymous shop").replace("upper = 90\n", TAGGED)
    )
    both = kesit("client", "rules", "--home", "ankara", "--json")
    assert both.code == exits.SETTINGS
    told = json.loads(both.out)["reports"]
    assert [report["study"]["name"] for report in told] == ["Anonymous shop", "Small shop"]
    assert [report["blocked"] for report in told] == [True, False]
    assert by_rule(both)["KVKK-3-ANONYMOUS"]["verdict"] == "FAIL"
    table = kesit("client", "rules", "--home", "ankara")
    assert table.out.count("no legal advice") == 2


def test_the_inventory_says_what_is_known_and_what_is_not(
    kesit: Kesit, shop: Path, home: Path
) -> None:
    def rows(*options: str) -> list[dict[str, str]]:
        made = kesit("client", "inventory", "i.csv", "--home", "ankara", *options)
        assert made.code == exits.OK, made.err
        return list(csv.DictReader((shop / "i.csv").read_text(encoding="utf-8").splitlines()))

    assert rows() == []  # no study is approved
    [before] = rows("--study", "study.toml", "--language", "en")
    assert before["ground"] == "contract"
    assert before["hash"] == load_study(shop / "study.toml").hash
    for unknown in ("special categories", "recipients", "transfer abroad", "retention (days)"):
        assert before[unknown] == "unknown"
    (home / "attestations.toml").write_text(PLACES)
    (home / "consent.toml").write_text('[defaults]\nverbis_activity_id = "V-7"\n')
    edit(shop / "study.toml", "upper = 90\n", TAGGED)
    [after] = rows("--study", "study.toml")
    assert after["faaliyet no"] == "V-7"
    assert after["işleme şartı"] == "sözleşmenin kurulması veya ifası (contract)"
    assert (after["alıcılar"], after["yurt dışına aktarım"]) == ("yok", "yok")
    edit(home / "attestations.toml", '"Ankara"\nregion = "TR"', '"Ankara"\nregion = "DE"')
    [abroad] = rows("--study", "study.toml")
    assert abroad["yurt dışına aktarım"] == "Ankara (DE, bilinmiyor)"


def test_another_folder_is_refused(kesit: Kesit, shop: Path) -> None:
    refused = kesit("client", "rules", "--home", ".")
    assert refused.code == exits.SETTINGS
    assert "is no client's folder" in refused.said


def test_the_template_blocks_nothing(kesit: Kesit, tmp_path: Path) -> None:
    assert kesit("study", "new", "mine.toml").code == exits.OK
    shown = kesit("study", "rules", "mine.toml", "--json")
    assert shown.code == exits.OK
    found = by_rule(shown)
    for rule in ("KVKK-4-DESCRIBED", "KVKK-4-RETENTION", "KVKK-6-GROUND", "LOYALTY"):
        assert found[rule]["verdict"] == "PASS", rule
