"""`kesit study rules` and `kesit client rules`: a study beside the rules of data protection."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kesit_cli import exits, show
from kesit_cli.keys import Home

if TYPE_CHECKING:
    from rich.console import Console

    from kesit_privacy.rules import Facts, Language, Report


class PackName(StrEnum):
    """Rule packs that come with Kesit."""

    KVKK = "kvkk"
    GDPR = "gdpr"


class Tongue(StrEnum):
    """Languages of the table."""

    ENGLISH = "en"
    TURKISH = "tr"


class Profile(StrEnum):
    """Kinds of organisation for which a pack has rules of their own."""

    BANK = "bank"


PackOption = Annotated[PackName, typer.Option("--pack", help="The rules: Turkey's, or the EU's.")]
TongueOption = Annotated[Tongue, typer.Option("--language", help="English or Turkish.")]
ProfileOption = Annotated[
    list[Profile] | None, typer.Option("--profile", help="Rules for such an organisation, too.")
]
RecordsOption = Annotated[
    Path | None,
    typer.Option("--attestations", metavar="FILE", help="Attestations and records (TOML)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def study_rules(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", hidden=True)],
    pack: PackOption = PackName.KVKK,
    language: TongueOption = Tongue.ENGLISH,
    attestations: RecordsOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold STUDY.toml against the rules of data protection.

    The worst comes first. What a study file cannot tell is INCONCLUSIVE, never PASS. The exit code
    is 3 if a blocking rule fails. This is no legal advice.

    \b
    Examples:
      kesit study rules study.toml
      kesit study rules study.toml --language tr --attestations coordinator/attestations.toml
      kesit study rules study.toml --pack gdpr --json
      kesit study rules study.toml --profile bank
    """
    from kesit_privacy.rules import (
        Facts,
        Records,
        attested_release,
        load_records,
        member_places,
    )
    from kesit_privacy.study_file import load_study

    study = load_study(study_file)
    records = Records() if attestations is None else load_records(attestations)
    now = datetime.now().astimezone()
    age, kept = records.rows_days(now.date())
    facts = Facts(
        now=now,
        study=study,
        places=member_places(None, records.places),
        recipients=records.recipients,
        incidents=records.incidents,
        attestations=records.attestations,
        release=attested_release(None, records.attestations, study, now.date()),
        rows_age_days=age,
        rows_kept_days=kept,
    )
    _report([facts], pack, language, profile or (), as_json=as_json)


def client_rules(
    home: Home,
    study_file: Annotated[Path | None, typer.Argument(metavar="[STUDY.toml]", hidden=True)] = None,
    pack: PackOption = PackName.KVKK,
    language: TongueOption = Tongue.ENGLISH,
    attestations: RecordsOption = None,
    profile: ProfileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold this member against the rules of data protection: for STUDY.toml, or each study it has.

    It looks at the policy, the member list and attestations.toml in the folder. The worst comes
    first; what is not known is INCONCLUSIVE, never PASS. The exit code is 3 if a blocking rule
    fails. This is no legal advice.

    \b
    Examples:
      kesit client rules --home ankara
      kesit client rules study.toml --home ankara --language tr
      kesit client rules study.toml --home ankara --profile bank --json
    """
    from kesit_client.owner.approvals import approved_copies
    from kesit_client.owner.rule_facts import gather
    from kesit_privacy.study import Study
    from kesit_privacy.study_file import load_study

    studies: Sequence[Study | None]
    studies = approved_copies(home) or [None] if study_file is None else [load_study(study_file)]
    now = datetime.now().astimezone()
    known = [gather(home, study, now=now, attestations=attestations) for study in studies]
    _report(known, pack, language, profile or (), as_json=as_json)


def inventory(
    out: Annotated[Path, typer.Argument(metavar="FILE", hidden=True)],
    home: Home,
    study_file: Annotated[
        Path | None,
        typer.Option("--study", metavar="STUDY.toml", help="This study, not each one it has."),
    ] = None,
    language: TongueOption = Tongue.TURKISH,
) -> None:
    """Write the member's studies as entries for the inventory of processing (VERBIS), as CSV.

    What nobody recorded is said to be unknown. Compare it with what is declared, and attest it
    (`verbis-scope`).

    \b
    Examples:
      kesit client inventory inventory.csv --home ankara
      kesit client inventory inventory.csv --study study.toml --home ankara --language en
    """
    from kesit_cli.files import write_private
    from kesit_client.owner.approvals import approved_copies
    from kesit_client.owner.inventory import entries
    from kesit_privacy.study import Study
    from kesit_privacy.study_file import load_study

    studies: Sequence[Study]
    studies = approved_copies(home) if study_file is None else [load_study(study_file)]
    write_private(out, entries(home, studies, "en" if language is Tongue.ENGLISH else "tr"))
    show.print_facts(show.console(), [("Studies", str(len(studies))), ("Inventory", str(out))])


def _report(
    known: Sequence[Facts],
    name: PackName,
    tongue: Tongue,
    profiles: Sequence[Profile],
    *,
    as_json: bool,
) -> None:
    from kesit_privacy.rules import evaluate, load_pack

    pack = load_pack(name.value)
    language: Language = "tr" if tongue is Tongue.TURKISH else "en"
    chosen = {profile.value for profile in profiles}
    reports = [(facts, evaluate(pack, facts, chosen)) for facts in known]
    blocked = any(report.blocked for _, report in reports)
    if as_json:
        told = [_plain(facts, report, language) for facts, report in reports]
        typer.echo(json.dumps(_whole(told, reports[0][1], language, blocked=blocked)))
    else:
        screen = show.console()
        for facts, report in reports:
            _print(screen, facts, report, language)
    if blocked:
        raise typer.Exit(exits.SETTINGS)


def _print(screen: Console, facts: Facts, report: Report, language: Language) -> None:
    from kesit_privacy.rules import NOTICE, Verdict
    from kesit_privacy.rules.verdicts import VERDICT_WORDS, Words

    needless = Words("Attestations for which no rule asks", "Hiçbir kuralın istemediği beyanlar")

    study = facts.study
    named = "-" if study is None else f"{study.name} ({study.hash[:16]})"
    turkish = language == "tr"
    show.print_facts(
        screen,
        [
            ("Çalışma" if turkish else "Study", named),
            ("Kurallar" if turkish else "Rules", report.pack.name),
        ],
    )
    screen.print()
    headers = ("sonuç", "kural ve madde", "bulunan", "yapılacak")
    table = show.new_table(
        *(headers if turkish else ("verdict", "rule and article", "found", "what to do")),
        whole=(0, 1),
    )
    width = max((len(finding.rule.id) for finding in report.findings), default=0)
    for finding in report.findings:
        table.add_row(
            VERDICT_WORDS[finding.verdict].to(language),
            f"{finding.rule.id}\n{textwrap.fill(finding.rule.article.to(language), width)}",
            finding.evidence.to(language),
            "" if finding.action is None else finding.action.to(language),
        )
    show.put(screen, table)
    counts = ", ".join(
        f"{VERDICT_WORDS[verdict].to(language)} {report.count(verdict)}"
        for verdict in reversed(Verdict)
    )
    screen.print(f"\n{counts}")
    if report.blocked:
        screen.print(_blocked(report, language))
    if kinds := _needless(facts, report):
        screen.print(f"{needless.to(language)}: {kinds}")
    if report.left_out:
        left = ", ".join(report.left_out)
        screen.print(f"{'Bakılmayan' if turkish else 'Not looked at'} (--profile): {left}")
    screen.print(f"{NOTICE.to(language)}\n")


def _needless(facts: Facts, report: Report) -> str:
    """Kinds of attestations for which no rule of the pack asks: perhaps typing errors."""
    from kesit_privacy.rules import RELEASE_KINDS

    params = [rule.checked_params for rule in report.pack.rules]
    asked = {*RELEASE_KINDS, *(kind for each in params for kind in getattr(each, "kinds", ()))}
    return ", ".join(sorted({item.kind for item in facts.attestations or ()} - asked))


def _blocked(report: Report, language: Language) -> str:
    ids = ", ".join(finding.rule.id for finding in report.findings if finding.blocks)
    if language == "tr":
        return f"Engelleyen kurallar: {ids}"
    return f"Blocking rules that fail: {ids}"


def _plain(facts: Facts, report: Report, language: Language) -> dict[str, Any]:
    study = facts.study
    return {
        "study": None if study is None else {"name": study.name, "hash": study.hash},
        "blocked": report.blocked,
        "left_out": list(report.left_out),
        "findings": [
            {
                "verdict": finding.verdict.value,
                "rule": finding.rule.id,
                "severity": finding.rule.severity,
                "needs_counsel": finding.rule.needs_counsel,
                "subject": finding.rule.subject,
                "article": finding.rule.article.to(language),
                "duty": finding.rule.duty.to(language),
                "found": finding.evidence.to(language),
                "to_do": None if finding.action is None else finding.action.to(language),
            }
            for finding in report.findings
        ],
    }


def _whole(
    told: list[dict[str, Any]], report: Report, language: Language, *, blocked: bool
) -> dict[str, Any]:
    from kesit_privacy.rules import NOTICE

    pack = report.pack
    return {
        "pack": {"id": pack.id, "version": pack.version, "hash": pack.hash},
        "language": language,
        "notice": NOTICE.to(language),
        "blocked": blocked,
        "reports": told,
    }
