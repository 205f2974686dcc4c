"""What a client tells one person about its data: as JSON, and as a text in Turkish or English."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kesit_client.consent import keeping
from kesit_client.consent.events import SECOND, now_us, show_time
from kesit_client.consent.exporting import shared_fields
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.witness import CAUTION
from kesit_client.rights import incidents, requests
from kesit_client.rights.report_words import TURKISH, WORDS
from kesit_client.rights.runs import Booked, untold
from kesit_client.rights.traces import EXPORT, RUN, traces


def access_report(store: ConsentStore, principal: str, now: int | None = None) -> dict[str, Any]:
    """All that the consent store holds about a person, ready for JSON.

    And the runs of the books of which the store cannot tell (`runs.untold`). `looks_restored` is
    None, or why the store looks like an older copy, with what to say of it.

    Raises:
        ConsentError: the person is unknown.
        ConsentStoreError: the store cannot be read.
    """
    moment = now_us() if now is None else now
    asked = requests.of_person(store, principal)
    traced = traces(store, principal)
    # Who asks, or whose data were given to somebody, is told so even if no record speaks of it.
    events = keeping.history(store, principal, need=not (asked or traced))
    shared = shared_fields(store)
    rest = untold(store, principal, {item.name for item in traced if item.kind == RUN})
    restored = store.restored
    return {
        "looks_restored": None if restored is None else {"why": restored, **CAUTION},
        "pii_principal_id": principal,
        "made_at": show_time(moment),
        "events": [
            {
                "time": show_time(event.time),
                "purpose": event.purpose,
                "event_type": event.type.word,
                "lawful_basis": event.basis if event.grants else None,
                "valid_until": show_time(event.valid_until) if event.grants else None,
                "record_id": event.record_id,
                "collection_channel": event.channel,
                "notice_hash": event.notice_hash,
                "fields": shared.get(event.terms, {}),
            }
            for event in events
        ],
        "states": [
            {"purpose": purpose, "lawful_basis": basis, "state": found.reason.word}
            for purpose, basis, found in keeping.states_of(events, moment)
        ],
        "runs": [
            {
                "run": item.name,
                "decision": item.what,
                "at": show_time(item.at),
                "withdrawn_at": _shown(item.withdrawn_at),
            }
            for item in traced
            if item.kind == RUN
        ],
        "runs_that_counted_everybody": [_booked(item) for item in rest.all_counted],
        "runs_not_recorded": [_booked(item) for item in rest.unrecorded],
        "books_are_whole": rest.whole,
        "requests": [
            {
                "id": item.id,
                "kind": item.kind,
                "opened_at": show_time(item.opened_at),
                "due_at": show_time(item.due_at),
                "outcome": item.outcome,
                "complaint_until": _shown(item.complaint_until),
            }
            for item in asked
        ],
        "exports": [
            {
                "export": int(item.name),
                "recipient": item.recipient,
                "what": item.what,
                "exported_at": show_time(item.at),
                "withdrawn_at": _shown(item.withdrawn_at),
                "acknowledged_at": _shown(item.acknowledged_at),
            }
            for item in traced
            if item.kind == EXPORT
        ],
        "incidents": [
            {"known_at": show_time(item.known_at), "what": item.note}
            for item in incidents.of_person(store, principal)
        ],
    }


def as_json(report: dict[str, Any]) -> bytes:
    """The report as a file."""
    return json.dumps(report, ensure_ascii=False, indent=1).encode() + b"\n"


def as_text(report: dict[str, Any], language: str = "tr") -> str:
    """The report for a person to read, in "tr" or "en"."""
    words = WORDS[language]

    def said(word: str) -> str:
        return TURKISH.get(word, word) if language == "tr" else word.replace("_", " ")

    def since(trace: dict[str, Any]) -> str:
        if trace["withdrawn_at"] is None:
            return ""
        known = trace.get("acknowledged_at")
        told = "" if known is None else f", {words['acknowledged']} {known}"
        return f" ({words['withdrawn']} {trace['withdrawn_at']}{told})"

    parts: list[tuple[str, list[str]]] = [
        (
            "states",
            [
                f"{s['purpose']} ({words['ground']}: {said(s['lawful_basis'])}): {said(s['state'])}"
                for s in report["states"]
            ],
        ),
        (
            "events",
            [
                f"{e['time']}  {e['purpose']}: {said(e['event_type'])}"
                + (
                    f" ({words['ground']}: {said(e['lawful_basis'])}; {words['until']}:"
                    f" {said(e['valid_until'])})"
                    if e["lawful_basis"]
                    else ""
                )
                for e in report["events"]
            ],
        ),
        (
            "runs",
            [
                *(
                    f"{r['run']}: {_decision(r['decision'], said)}{since(r)}"
                    for r in report["runs"]
                ),
                *_untold(report, words),
            ],
        ),
        (
            "requests",
            [
                f"{r['id']}: {said(r['kind'])}, {said(r['outcome'] or 'open')}"
                f" ({words['due']}: {r['due_at']};"
                f" {words['complaint']}: {r['complaint_until']})"
                for r in report["requests"]
            ],
        ),
        (
            "exports",
            [
                f"{e['exported_at']}  {e['recipient']}: {e['what']}{since(e)}"
                for e in report["exports"]
            ],
        ),
        ("incidents", [f"{i['known_at']}  {i['what']}" for i in report["incidents"]]),
    ]
    restored = report["looks_restored"]
    lines = [] if restored is None else [restored[language], ""]
    lines.append(f"{words['title']} {report['pii_principal_id']}")
    lines.append(f"{words['made']}: {report['made_at']}")
    for name, items in parts:
        lines += ["", words[name], *(f"- {item}" for item in items or [words["none"]])]
    return "\n".join(lines) + "\n"


def _decision(decision: str, said: Callable[[str], str]) -> str:
    """ "included", or "excluded: " with a reason and, where it is known, " at " and a time."""
    what, _, why = decision.partition(": ")
    reason, at, moment = why.partition(" at ")
    if not why:
        return said(what)
    return f"{said(what)}: {said(reason)}{f' ({moment})' if at else ''}"


def _untold(report: dict[str, Any], words: dict[str, str]) -> list[str]:
    """Of the runs of which no leaf tells the person."""
    lines = []
    for name, text in (
        ("runs_that_counted_everybody", "all_counted"),
        ("runs_not_recorded", "unrecorded"),
    ):
        if found := report[name]:
            told = "".join(f"\n  {item['run']} ({item['at']})" for item in found)
            lines.append(f"{words[text].format(count=len(found))}:{told}")
    return lines if report["books_are_whole"] else [*lines, words["books"]]


def _booked(item: Booked) -> dict[str, str]:
    return {"run": item.run, "at": show_time(int(item.at * SECOND))}


def _shown(moment: int | None) -> str | None:
    return None if moment is None else show_time(moment)
