"""Facts for tests of the rules: one set in which all is well, and ways to spoil it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from kesit_privacy.rules import (
    Attestation,
    ConsentFacts,
    Facts,
    Incident,
    Place,
    PolicyFacts,
    Recipient,
    ReleaseFacts,
    RequestFacts,
    load_pack,
    pack_names,
)
from kesit_privacy.rules.checks.attested import AttestedParams
from kesit_privacy.study import Study
from kit import small_study

NOW = datetime.datetime(2026, 6, 15, 12, tzinfo=datetime.UTC)
TODAY = NOW.date()
KINDS = sorted(
    {
        kind
        for pack in map(load_pack, pack_names())
        for rule in pack.rules
        if isinstance(rule.checked_params, AttestedParams)
        for kind in rule.checked_params.kinds
    }
)
SHA = "ab" * 32


def days_ago(days: int) -> datetime.date:
    return TODAY - datetime.timedelta(days=days)


def hours_ago(hours: int) -> datetime.datetime:
    return NOW - datetime.timedelta(hours=hours)


def features(*tags: list[str], names: tuple[str, str] = ("x", "y")) -> list[dict[str, Any]]:
    """Two numeric features with those tags."""
    return [
        {"kind": "numeric", "name": name, "lower": 0.0, "upper": 1.0, "tags": list(own)}
        for name, own in zip(names, tags, strict=True)
    ]


PROCESSING: dict[str, Any] = {
    "description": "Groups of customers with similar use.",
    "retention_days": 365,
    "profiling": True,
    "automated_decisions": True,
    "special_ground": "explicit-consent",
    "regions": ["TR", "DE"],
}


def study(processing: dict[str, Any] | None = None, **changes: Any) -> Study:
    """A study of which everything is said; None in `processing` leaves a statement out."""
    said = {**PROCESSING, **(processing or {})}
    statements = {name: value for name, value in said.items() if value is not None}
    plain = {"features": features(["ordinary"], ["profiling"]), "processing": statements}
    return small_study(**(plain | changes))


def attestation(kind: str, of: Study, **changes: Any) -> Attestation:
    word = Attestation(kind, "Ayşe Yılmaz", "compliance", days_ago(10), SHA, study=of.hash)
    return replace(word, **changes)


def good(of: Study | None = None) -> Facts:
    """Facts with which every rule that applies passes."""
    chosen = of or study()
    return Facts(
        now=NOW,
        study=chosen,
        policy=PolicyFacts(("customer-segmentation",), ("x", "y")),
        consents=ConsentFacts(
            *(0, 0, 0, 5, 0, 0, 0, 0, 0),
            notice_first=1.0,
            profiling_without=0,
            retention_set=True,
            iys_checked={"sms": days_ago(3), "email": days_ago(5)},
            iys_unapproved=0,
            iys_late=0,
            iys_proof_days=1096,
        ),
        requests=RequestFacts(30, 30, 0, 0, 0, 2, 0),
        release=ReleaseFacts(
            says_anonymous=False,
            audit_passed=True,
            codes_suppressed=2,
            explained=True,
            pseudonymised=True,
            withdrawals_marked=True,
            differencing_rerun=True,
        ),
        places=(
            Place("server", "TR"),
            Place(
                "Berlin",
                "DE",
                "standard-contract",
                datetime.date(2026, 3, 2),
                datetime.date(2026, 3, 9),
            ),
        ),
        recipients=(Recipient("Agency", "explicit-consent"),),
        incidents=(Incident("laptop", hours_ago(100), hours_ago(28), 12, hours_ago(20)),),
        attestations=tuple(attestation(kind, chosen) for kind in KINDS),
        rows_age_days=365,
        rows_kept_days=184,
        disposal_log_days=1096,
    )


def changed(path: str, value: Any, facts: Facts | None = None) -> Facts:
    """Facts with another value at a dotted path."""
    start = facts or good()
    head, _, rest = path.partition(".")
    if rest:
        value = replace(getattr(start, head), **{rest: value})
    return replace(start, **{head: value})


def without(*kinds: str, facts: Facts | None = None) -> Facts:
    """Facts without attestations of these kinds."""
    start = facts or good()
    kept = tuple(a for a in start.attestations or () if a.kind not in kinds)
    return replace(start, attestations=kept)


def redone(*kinds: str, facts: Facts | None = None, **changes: Any) -> Facts:
    """Facts in which attestations of these kinds are other ones."""
    start = facts or good()
    words = start.attestations or ()
    new = tuple(replace(a, **changes) if a.kind in kinds else a for a in words)
    return replace(start, attestations=new)


Removal = Callable[[Facts], Facts]

_NO_FACTS = {"file", "expires"}
"""Fields whose absence is no ignorance: an attestation without an end has none."""


def removals(facts: Facts) -> Iterator[Facts]:
    """Every set of facts with one fact less."""
    for field in fields(facts):
        value = getattr(facts, field.name)
        if value is None:
            continue
        yield replace(facts, **{field.name: None})
        if isinstance(value, Study):
            smaller = _less_of_a_study(value)
        elif isinstance(value, tuple):
            smaller = _less_of_a_list(value, may_shrink=field.name == "attestations")
        else:
            smaller = _less(value)
        for less in smaller:
            yield replace(facts, **{field.name: less})


def _less(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            optional = "None" in str(field.type) and field.name not in _NO_FACTS
            if optional and getattr(value, field.name) is not None:
                yield replace(value, **{field.name: None})


def _less_of_a_list(items: tuple[Any, ...], *, may_shrink: bool) -> Iterator[tuple[Any, ...]]:
    for place, item in enumerate(items):
        if may_shrink:
            yield items[:place] + items[place + 1 :]
        for less in _less(item):
            yield (*items[:place], less, *items[place + 1 :])


def _less_of_a_study(value: Study) -> Iterator[Study]:
    for place, feature in enumerate(value.features):
        if feature.tags:
            bare = replace(feature, tags=())
            new = (*value.features[:place], bare, *value.features[place + 1 :])
            yield replace(value, features=new)
    if value.processing is not None:
        yield replace(value, processing=None)
        for less in _less(value.processing):
            yield replace(value, processing=less)
