"""What to do where not enough is known: which record, command or attestation tells it.

A coordinator can only ask the members. A member is told how it makes the fact known.
"""

from __future__ import annotations

from typing import Final

from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.named import CONDITIONS
from kesit_privacy.rules.pack import Rule
from kesit_privacy.rules.verdicts import Words

ASK_MEMBERS: Final[dict[str, Words]] = {
    "policy": Words(
        "Have each member answer this (`kesit client rules`).",
        "Bunu her üye kendi tarafında yanıtlasın (`kesit client rules`).",
    ),
    "consent": Words(
        "Have each member answer this from its consent records.",
        "Bunu her üye kendi rıza ve başvuru kayıtlarından yanıtlasın.",
    ),
    "release": Words(
        "Answer this before anything is released.", "Herhangi bir çıktı vermeden önce yanıtlayın."
    ),
}
"""By subject, where no member's folder is looked at."""

_IMPORT: Final = Words(
    'Write `consent = "required"` in policy.toml, and import the records'
    " (`kesit client consent import`).",
    'policy.toml dosyasına `consent = "required"` yazın ve kayıtları içe aktarın'
    " (`kesit client consent import`).",
)
_EXPORTS: Final = Words(
    "Note what is given out (`kesit client exports add`), or write `recipients = []` in"
    " attestations.toml if nobody is given data.",
    "Verilenleri kaydedin (`kesit client exports add`); kimseye veri verilmiyorsa"
    " attestations.toml dosyasına `recipients = []` yazın.",
)

_FACTS: Final[dict[str, Words]] = {
    "rows_age_days": Words(
        "Write `rows_updated`, the day on which the rows were last brought up to date, in"
        " attestations.toml.",
        "Verilerin son güncellendiği günü attestations.toml dosyasına `rows_updated` olarak yazın.",
    ),
    "rows_kept_days": Words(
        "Write `rows_since`, the day on which the oldest rows were taken in, in attestations.toml.",
        "En eski verilerin alındığı günü attestations.toml dosyasına `rows_since` olarak yazın.",
    ),
    "disposal_log_days": Words(
        "Run `kesit client dispose --yes`: it notes what it did.",
        "`kesit client dispose --yes` komutunu çalıştırın: yaptığını kaydeder.",
    ),
    "consents.iys_unapproved": Words(
        "Note each list for messages when it is given out (`kesit client exports add --channel`).",
        "Her ileti listesini verildiğinde kaydedin (`kesit client exports add --channel`).",
    ),
    "consents.iys_late": Words(
        "Import consents to messages with their `iys_channel`, or open the clock of a transfer"
        " (`kesit client rights open iys-transfer`).",
        "İleti onaylarını `iys_channel` alanıyla içe aktarın ya da aktarım süresini başlatın"
        " (`kesit client rights open iys-transfer`).",
    ),
    "iys-fresh": Words(
        "Import `iys_status` records, or record what IYS says (`kesit client consent iys`).",
        "`iys_status` kayıtlarını içe aktarın ya da İYS durumunu kaydedin"
        " (`kesit client consent iys`).",
    ),
    "requests.marketing_objections_included": Words(
        "Write in consent.toml which purposes are marketing (`marketing_purposes`).",
        "Hangi amaçların pazarlama olduğunu consent.toml dosyasına yazın (`marketing_purposes`).",
    ),
    "release.withdrawals_marked": _EXPORTS,
    "release.differencing_rerun": Words(
        "Run the differencing audit again and attest it (`differencing-audit`, with the study's"
        " hash); it is compared with the exports that are noted (`kesit client exports add`).",
        "Fark alma denetimini yineleyin ve beyan edin (`differencing-audit`, çalışmanın özet"
        " değeriyle birlikte); beyan, kaydedilen aktarımlarla karşılaştırılır"
        " (`kesit client exports add`).",
    ),
    "objections-suppressed": _EXPORTS,
}
"""By the fact that a rule looks at, or by its check."""

_CONDITIONS: Final[dict[str, Words]] = {
    "profiling": Words(
        "Tag every feature, and write `profiling` in the study's [processing] table.",
        "Her özniteliği etiketleyin ve çalışmanın [processing] tablosuna `profiling` yazın.",
    ),
    "automated-decisions": Words(
        "Write `automated_decisions` in the study's [processing] table.",
        "Çalışmanın [processing] tablosuna `automated_decisions` yazın.",
    ),
    "withdrawals": _IMPORT,
}
"""By the condition of which nobody knows whether it holds."""
_STUDY: Final = Words(
    "Name the study: `kesit client rules STUDY.toml`.",
    "Çalışmayı belirtin: `kesit client rules STUDY.toml`.",
)

_OF_REQUESTS: Final = ("disposal_log_days", "objections-suppressed")
"""Of other subjects, but told by the consent store as well."""


def answer(rule: Rule, facts: Facts) -> Words:
    """How an INCONCLUSIVE rule gets its facts."""
    if facts.policy is None:
        return ASK_MEMBERS.get(rule.subject, rule.remedy)
    if facts.study is None and (rule.subject == "consent" or rule.when is not None):
        return _STUDY
    if rule.when in _CONDITIONS and CONDITIONS[rule.when][0](facts) is None:
        return _CONDITIONS[rule.when]
    if rule.subject not in ASK_MEMBERS:
        return rule.remedy
    name = rule.params.get("fact") or rule.check
    if facts.requests is None and (rule.subject == "consent" or name in _OF_REQUESTS):
        return _IMPORT  # the store was not looked at: nothing else helps before that
    return _FACTS.get(name, rule.remedy if rule.subject == "release" else _IMPORT)
