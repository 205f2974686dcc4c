"""Blocking rules while studies run: what held at the approval may have ended since."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from branchkit import STUDY, Branches
from consentkit import PURPOSE, load, row
from kesit_client.consent.events import SECOND, now_us, to_us, write_time
from kesit_client.consent.keeping import record_iys
from kesit_client.consent.store import ConsentStore
from kesit_client.home import POLICY
from kesit_client.ledger import journal
from kesit_client.node import Node
from kesit_client.owner import approvals
from kesit_client.owner.rule_facts import SETTLED, settled, standing_rules
from kesit_client.rights import exports, requests
from kesit_privacy import canonical
from kesit_privacy.hello import Hello, HelloRequest, gather
from kesit_privacy.rules import evaluate, load_pack, pack_names
from kesit_privacy.study_file import study_from_toml
from kesit_privacy.wire import RefusalCode, read_reply, refusal
from kit import ask, instruct, query_for
from rulekit import good

DAY = 86_400
BALANCED = STUDY.replace("explicit-consent", "legitimate-interest")
TEST_OF_BALANCE = """
[[attestations]]
kind = "balancing-test"
name = "Ayşe Yılmaz"
role = "compliance"
date = {date}
sha256 = "{sha}"
study = "{study}"
"""


class Member:
    """A branch that keeps consents, and says hello to one run after the other."""

    def __init__(self, place: Path, study: str = STUDY) -> None:
        self.branches = Branches(place)
        self.home = self.branches.homes[0]
        (self.home / POLICY).write_text(
            f'consent = "required"\n{(self.home / POLICY).read_text(encoding="utf-8")}',
            encoding="utf-8",
        )
        for home in self.branches.homes:
            (home / "studies/three.toml").write_text(study, encoding="utf-8")
        self.study = study_from_toml(study)
        self.nodes: list[Node] = []

    def begin(self) -> None:
        """Open the nodes; their owners approve as `kesit client approve` does."""
        self.nodes = self.branches.open()
        for home, node in zip(self.branches.homes, self.nodes, strict=True):
            approvals.require_rules(home, self.study)
            node.approve(self.study)
        self.node = self.nodes[0]

    def load(self, *rows: dict[str, str]) -> None:
        """Import records."""
        with closing(ConsentStore.open(self.home)) as store:
            found = load(store, self.home, rows, now=now_us())
        assert not len(found.refused), found.refused

    def hello(self, run: str) -> bytes:
        """The member's answer to a new run, or its refusal."""
        server = self.branches.server.public
        answer = self.node.hello(HelloRequest(self.study.hash, run * 32, server).encoded)
        return answer[:1] if answer[0] == RefusalCode.OK else answer

    def causes(self) -> list[tuple[RefusalCode, str]]:
        """What `kesit client log` shows of refusals."""
        entries = journal.read_log(self.node.store)
        return [(e.code, e.cause) for e in entries if e.kind == journal.REFUSED]

    def approved(self) -> bool:
        with self.node.store.transaction() as books:
            return books.approved(self.study.hash)


OK = bytes([RefusalCode.OK])


def attested(home: Path, study: str, date: datetime.date) -> None:
    text = TEST_OF_BALANCE.format(date=date, sha="ab" * 32, study=study_from_toml(study).hash)
    (home / "attestations.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def balanced(tmp_path: Path) -> Member:
    """A study on legitimate interest, whose balancing test ends during its runs."""
    member = Member(tmp_path, BALANCED)
    for home in member.branches.homes:
        attested(home, BALANCED, datetime.datetime.now(datetime.UTC).date())
    member.load(row("0-1", lawful_basis="legitimate-interest"))
    member.begin()
    return member


def test_an_attestation_that_ended_refuses_the_run_and_says_so_to_the_owner(
    balanced: Member, caplog: pytest.LogCaptureFixture
) -> None:
    assert balanced.hello("a") == OK
    now = balanced.node.clock()
    balanced.node.clock = lambda: now + 800 * DAY  # a balancing test holds for two years
    assert balanced.hello("b") == refusal(RefusalCode.POLICY)
    ((code, cause),) = balanced.causes()
    assert code is RefusalCode.POLICY
    assert "KVKK-5-BALANCE: balancing-test: expired on" in cause
    assert "KVKK-5-BALANCE" in caplog.text
    assert balanced.approved()  # settings are judged anew each time; nobody's record is in them
    balanced.node.clock = lambda: now
    assert balanced.hello("c") == OK


def test_it_refuses_the_next_sum_as_well_before_anything_is_charged(balanced: Member) -> None:
    request = HelloRequest(balanced.study.hash, "a" * 32, balanced.branches.server.public)
    replies = [read_reply(node.hello(request.encoded))[1] for node in balanced.nodes]
    transcript = gather(request, [Hello.from_value(canonical.decode(each)) for each in replies])
    order = instruct(balanced.study, transcript, "grid", query_for(balanced.study, "grid"))
    now = balanced.node.clock()
    balanced.node.clock = lambda: now + 800 * DAY
    assert ask(balanced.node, order, transcript) == (RefusalCode.POLICY, b"")
    with balanced.node.store.transaction() as books:
        assert not books.charges(order.run)
    balanced.node.clock = lambda: now
    assert ask(balanced.node, order, transcript)[0] is RefusalCode.OK


def late_erasure(member: Member) -> None:
    with closing(ConsentStore.open(member.home)) as store:
        requests.open_request(store, "erasure", "0-1", now=now_us() - 40 * DAY * SECOND)


def no_notice(member: Member) -> None:
    """A consent of whose notice nobody knows when it was shown: the import cannot tell."""
    member.load(row("0-2", notice_shown_at=""))


def unapproved_list(member: Member) -> None:
    """The registry refuses the channel of a list that was given out."""
    with closing(ConsentStore.open(member.home)) as store:
        record_iys(store, "0-1", PURPOSE, channel="sms", status="RET")
        exports.record_export(store, "Agency", "list", ["0-1"], channel="sms")


FAILURES: dict[str, Callable[[Member], None]] = {
    "KVKK-7-REQUEST": late_erasure,
    "KVKK-10-FIRST": no_notice,
    "IYS-APPROVAL": unapproved_list,
}


@pytest.mark.parametrize("rule", FAILURES)
def test_records_that_fail_a_rule_end_the_approval(tmp_path: Path, rule: str) -> None:
    member = Member(tmp_path)
    member.load(row("0-1", validity_duration=None))
    member.begin()
    assert member.hello("a") == OK
    FAILURES[rule](member)
    assert member.hello("a") == OK  # the run has begun; the gate stands before each of its sums
    assert member.hello("b") == refusal(RefusalCode.NOT_APPROVED)
    ((code, cause),) = member.causes()
    assert code is RefusalCode.NOT_APPROVED
    assert cause.startswith("The approval was taken back")
    assert f"{rule}: " in cause
    assert not member.approved()


def test_the_server_sees_nothing_of_what_records_do_after_that(tmp_path: Path) -> None:
    """One bit an approval: an answer that followed the records would tell of one person's."""
    member = Member(tmp_path)
    member.load(row("0-1", validity_duration=None))
    member.begin()
    never = replace(member.study, name="never approved")
    unknown = HelloRequest(never.hash, "e" * 32, member.branches.server.public)
    late_erasure(member)
    seen = [member.hello("b")]
    with closing(ConsentStore.open(member.home)) as store:
        requests.close_request(store, 1)
    seen.append(member.hello("c"))
    assert seen == [member.node.hello(unknown.encoded)] * 2
    approvals.require_rules(member.home, member.study)  # now the owner may approve again
    member.node.approve(member.study)
    assert member.hello("d") == OK


def test_rules_that_cannot_be_judged_stop_the_run(balanced: Member) -> None:
    (balanced.home / "attestations.toml").write_text("incidents = 7\n")
    assert balanced.hello("b") == refusal(RefusalCode.UNAVAILABLE)
    ((_, cause),) = balanced.causes()
    assert "attestations.toml" in cause
    assert balanced.approved()


def test_no_record_of_a_person_decides_about_settings(tmp_path: Path) -> None:
    """Why a refusal by such a rule may be seen: its facts are the same whatever the records say."""
    full = good()
    bare = replace(full, consents=None, requests=None, release=None, disposal_log_days=None)
    for name in pack_names():
        rules = {f.rule.id: f for f in evaluate(load_pack(name), full, ["bank"]).findings}
        for finding in evaluate(load_pack(name), bare, ["bank"]).findings:
            if finding.rule.subject in SETTLED and finding.rule.severity == "blocking":
                assert finding == rules[finding.rule.id]
    member = Member(tmp_path)
    member.load(row("0-1", validity_duration=None))
    for fail in FAILURES.values():
        fail(member)
    now = now_us() / SECOND
    assert standing_rules(member.home, member.study, now, of_persons=False) is None
    assert standing_rules(member.home, member.study, now, of_persons=True) is not None


def test_an_attestation_of_today_counts_from_midnight_in_istanbul(tmp_path: Path) -> None:
    """At half past midnight there it is yesterday in UTC; and the last day ends at midnight too."""
    member = Member(tmp_path, BALANCED)
    attested(member.home, BALANCED, datetime.date(2026, 6, 1))
    night = to_us(datetime.datetime.fromisoformat("2026-06-01T00:30:00+03:00"))
    assert write_time(night, 0).startswith("2026-05-31")
    found = evaluate_at(member, night)
    assert found == "PASS"
    last = to_us(datetime.datetime.fromisoformat("2028-06-01T23:59:00+03:00"))
    assert evaluate_at(member, last) == "PASS"
    assert evaluate_at(member, last + 60 * SECOND) == "FAIL"


def evaluate_at(member: Member, moment: int) -> str:
    now = datetime.datetime.fromtimestamp(moment / SECOND, datetime.UTC)
    _, verdicts = settled(member.home, member.study, now)
    return next(one["verdict"] for one in verdicts if one["rule"] == "KVKK-5-BALANCE")
