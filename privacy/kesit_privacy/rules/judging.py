"""From facts to findings: every rule of a pack gets a verdict, the worst first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from kesit_privacy.rules.answers import answer
from kesit_privacy.rules.catalogue import CATALOGUE
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.named import CONDITIONS
from kesit_privacy.rules.pack import Pack, Rule
from kesit_privacy.rules.verdicts import Outcome, Verdict, Words, not_known, passed

NOTICE: Final = Words(
    "This is no legal advice: it says what software can see, and a lawyer decides.",
    "Bu bir hukuki görüş değildir: yazılımın görebildiğini söyler, kararı hukukçu verir.",
)
UNCONFIRMED: Final = Words(
    "Our reading of this rule is not confirmed.", "Bu kurala ilişkin yorumumuz teyit edilmemiştir."
)
ASK: Final = Words("Ask counsel.", "Hukukçuya danışın.")

_WORST: Final = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NEEDS_COUNSEL, Verdict.PASS)
_HEAVIEST: Final = ("blocking", "serious", "advice")


@dataclass(frozen=True)
class Finding:
    """A rule's verdict, with what was found; `answer`: what would make known what is not."""

    rule: Rule
    verdict: Verdict
    evidence: Words
    answer: Words

    @property
    def blocks(self) -> bool:
        """Whether the work must not go on."""
        return self.verdict is Verdict.FAIL and self.rule.severity == "blocking"

    @property
    def action(self) -> Words | None:
        """What to do about it, if anything."""
        if self.verdict is Verdict.PASS:
            return None
        if self.verdict is Verdict.NEEDS_COUNSEL:
            return ASK
        if self.verdict is Verdict.INCONCLUSIVE:
            return self.answer
        return self.rule.remedy


@dataclass(frozen=True)
class Report:
    """All findings of a pack, the worst first. `left_out`: rules of profiles not asked for."""

    pack: Pack
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...] = ()

    @property
    def blocked(self) -> bool:
        """Whether any finding blocks."""
        return any(finding.blocks for finding in self.findings)

    def count(self, verdict: Verdict) -> int:
        """Findings with that verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)


def evaluate(pack: Pack, facts: Facts, profiles: Collection[str] = ()) -> Report:
    """Look at every rule of the pack; rules for a profile only if it is among `profiles`."""
    chosen = [rule for rule in pack.rules if rule.profile is None or rule.profile in profiles]
    findings = sorted((judge(rule, facts) for rule in chosen), key=_badness)
    left_out = tuple(rule.id for rule in pack.rules if rule not in chosen)
    return Report(pack, tuple(findings), left_out)


def judge(rule: Rule, facts: Facts) -> Finding:
    """One rule's verdict. A rule that needs counsel never passes."""
    outcome, how = look(rule, facts), answer(rule, facts)
    if outcome.verdict is Verdict.PASS and rule.needs_counsel:
        return Finding(rule, Verdict.NEEDS_COUNSEL, outcome.evidence + UNCONFIRMED, how)
    return Finding(rule, outcome.verdict, outcome.evidence, how)


def look(rule: Rule, facts: Facts) -> Outcome:
    """What the rule's check finds, if its condition holds."""
    if rule.when is not None:
        holds, sentence = CONDITIONS[rule.when]
        applies = holds(facts)
        if applies is None:
            return not_known(
                Words(f"whether {sentence.en}", f"şu hâlin bulunup bulunmadığı: {sentence.tr}")
            )
        if not applies:
            return passed(
                f"Does not apply; it would if this were so: {sentence.en}.",
                f"Uygulanmaz; şu hâlde uygulanırdı: {sentence.tr}.",
            )
    return CATALOGUE[rule.check].look(facts, rule.checked_params)


def _badness(finding: Finding) -> tuple[int, int]:
    return _WORST.index(finding.verdict), _HEAVIEST.index(finding.rule.severity)
