"""`kesit client rights`, `exports`: as a member's officer uses them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_client_cli import Federation

from clikit import Kesit
from consentkit import lasting, write
from kesit_cli import exits

HOME = ("--home", "Ankara")


@pytest.fixture
def member(kesit: Kesit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kesit:
    """Ankara, which has consents of four customers and gave a list of three to a call centre."""
    monkeypatch.delenv("KESIT_PASSPHRASE", raising=False)
    Federation(kesit).ready()
    policy = Path("Ankara/policy.toml")
    policy.write_text(f'consent = "required"\n{policy.read_text()}')
    write(tmp_path / "consents.csv", [lasting(name) for name in ("ayşe", "b", "c", "d")])
    run(kesit, "consent", "import", "consents.csv")
    Path("ids.txt").write_text("ayşe\nb\nc\n", encoding="utf-8")
    run(kesit, "exports", "add", "Call centre", "--ids", "ids.txt", "--what", "segment codes")
    return kesit


def run(kesit: Kesit, *arguments: str, code: int = exits.OK) -> str:
    """What a command prints."""
    done = kesit("client", *arguments, *HOME)
    assert done.code == code, done.err + done.out
    return done.out + done.err


def test_a_breach_from_the_first_hour_to_its_end(member: Kesit) -> None:
    run(member, "rights", "open", "breach", "--note", "laptop")
    assert "the persons must be told (nobody knows how many)" in run(member, "rights", "due")
    found = run(
        *(member, "rights", "affected", "--export", "1"),
        *("--incident", "1", "--out", "persons.csv"),
    )
    assert re.search(r"Persons +3\n", found)
    assert re.search(r"export 1 +3\n", found)
    assert "ayşe" not in found
    lines = Path("persons.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["pii_principal_id,place", "ayşe,export 1", "b,export 1", "c,export 1"]
    assert "was not told" in run(member, "rights", "close", "1", code=exits.DATA)
    rules = ("rules", "--json")
    verdicts = {
        one["rule"]: one["verdict"]
        for one in json.loads(run(member, *rules))["reports"][0]["findings"]
    }
    assert verdicts["KVKK-12-BREACH"] == verdicts["KVKK-12-PERSONS"] == "INCONCLUSIVE"
    run(member, "rights", "told", "1", "--whom", "board")
    run(member, "rights", "told", "1", "--whom", "persons")
    assert re.search(r"^ *1 .* 3 .* open +laptop", run(member, "rights", "incidents"), re.MULTILINE)
    run(member, "rights", "close", "1")
    verdicts = {
        one["rule"]: one["verdict"]
        for one in json.loads(run(member, *rules))["reports"][0]["findings"]
    }
    assert verdicts["KVKK-12-BREACH"] == verdicts["KVKK-12-PERSONS"] == "PASS"
    assert "ihlaller" in run(member, "rights", "report", "b")


def test_a_withdrawal_reaches_who_got_the_data(member: Kesit) -> None:
    run(member, "consent", "withdraw", "b")
    history = run(member, "consent", "history", "b")
    assert re.search(r"export 1,.* segment codes +2\d{3}-.* no\n", history), history
    listed = run(member, "exports", "list")
    assert re.search(r"Call centre +segment codes +3 +1 +1\n", listed)
    assert "Call centre has not acknowledged withdrawals (1 persons)" in run(
        member, "rights", "due"
    )
    run(member, "exports", "withdrawn", "1", "--out", "withdrawn.csv")
    lines = Path("withdrawn.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "pii_principal_id,withdrawn_at,acknowledged_at"
    assert [line.split(",")[0] for line in lines[1:]] == ["b"]
    run(member, "exports", "acknowledge", "1", "--withdrawals")
    assert re.search(r"Call centre +segment codes +3 +1 +0\n", run(member, "exports", "list"))
    again = run(member, "exports", "acknowledge", "1", "--withdrawals", code=exits.DATA)
    assert "waits for an acknowledgement" in again


def test_a_list_is_filtered_before_it_is_given_out(member: Kesit) -> None:
    run(member, "consent", "withdraw", "b")
    asked = ("exports", "filter", "--ids", "ids.txt", "--out", "allowed.txt", "--purpose")
    told = run(member, *asked, "customer-segmentation", code=exits.DATA)
    assert re.search(r"Left in +2\n", told)
    assert re.search(r"withdrawn +1\n", told)
    assert Path("allowed.txt").read_text(encoding="utf-8") == "ayşe\nc\n"
    refused = run(member, *asked, "x", "--basis", "because", code=exits.DATA)
    assert "no ground 'because'" in refused


def test_a_list_that_grew_old_is_told_when_it_is_noted(member: Kesit) -> None:
    asked = ("--ids", "ids.txt", "--purpose", "customer-segmentation")
    run(member, "exports", "filter", *asked, "--out", "allowed.txt")
    run(member, "consent", "withdraw", "b")
    add = ("exports", "add", "Agency", "--what", "list", *asked)
    told = run(member, *add, code=exits.DATA)
    assert re.search(r"given out although +persons\nwithdrawn +1\n", told)
    assert re.search(r"Agency +list +3 +1 +1\n", run(member, "exports", "list"))
    refused = run(member, *add, "--basis", "because", code=exits.DATA)
    assert "no ground 'because'" in refused


def test_a_status_of_the_message_registry_by_command(member: Kesit) -> None:
    asked = ("consent", "iys", "b", "--channel", "SMS", "--status")
    assert re.search(r"IYS +sms: ONAY\n", run(member, *asked, "onay"))
    assert "no status" in run(member, *asked, "maybe", code=exits.DATA)
    assert "is unknown" in run(member, *asked, "RET", "--purpose", "x", code=exits.DATA)
    assert "iys_status" in run(member, "consent", "history", "b")
    told = run(
        *(member, "exports", "filter", "--ids", "ids.txt", "--out", "allowed.txt"),
        *("--purpose", "customer-segmentation", "--channel", "sms"),
        code=exits.DATA,
    )
    assert re.search(r"no IYS approval +2\n", told)
    assert Path("allowed.txt").read_text(encoding="utf-8") == "b\n"


def test_times_are_read_strictly(member: Kesit) -> None:
    for text, said in (("yesterday", "is no time"), ("2999-01-01T00:00:00Z", "in the future")):
        opened = run(member, "rights", "open", "breach", "--received", text, code=exits.USAGE)
        assert said in opened
    run(member, "rights", "open", "breach", "--received", "2026-01-01T00:00:00+03:00")
    assert "late" in run(member, "rights", "list")
    assert "Nothing says where" in run(member, "rights", "affected", code=exits.DATA)
    missing = ("rights", "affected", "--kept", "--incident", "9", "--out", "none.csv")
    assert "no incident 9" in run(member, *missing, code=exits.DATA)
    assert not Path("none.csv").exists()
