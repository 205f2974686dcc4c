"""What a client tells one person about its data: as JSON, and as a text in Turkish or English."""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

from kesit_client.consent import keeping
from kesit_client.consent.events import now_us, show_time
from kesit_client.consent.exporting import shared_fields
from kesit_client.consent.models import LeafRow, Person, TreeRow
from kesit_client.consent.store import ConsentStore
from kesit_client.rights import exports, incidents, requests

WORDS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "title": "What is kept about",
        "made": "Made on",
        "events": "Records",
        "states": "Who may count you, and why",
        "runs": "Studies in which your row was counted or left out",
        "requests": "Your requests",
        "exports": "Who received your data",
        "incidents": "Breaches that concern your data",
        "none": "nothing",
        "due": "due",
    },
    "tr": {
        "title": "Hakkınızda tutulan kayıtlar:",
        "made": "Düzenlenme zamanı",
        "events": "Kayıtlar",
        "states": "Hangi amaçla sayılıp sayılmadığınız ve nedeni",
        "runs": "Satırınızın sayıldığı veya dışarıda bırakıldığı çalışmalar",
        "requests": "Başvurularınız",
        "exports": "Verilerinizin aktarıldığı alıcılar",
        "incidents": "Verilerinizi etkileyen ihlaller",
        "none": "yok",
        "due": "son tarih",
    },
}
TURKISH: Final[dict[str, str]] = {
    "given": "verildi",
    "refused": "reddedildi",
    "withdrawn": "geri alındı",
    "expired": "süresi doldu",
    "renewed": "yenilendi",
    "objected": "itiraz edildi",
    "objection_closed": "itiraz sonuçlandı",
    "notice_shown": "aydınlatma gösterildi",
    "iys_status": "İYS durumu",
    "unknown": "kayıt yok",
    "erased": "silindi",
    "minor": "reşit değil",
    "special category": "özel nitelikli veri",
    "no notice": "önceden aydınlatma yok",
    "notice is consent": "aydınlatma ile rıza aynı metin",
    "bundled": "tek işlemle birden çok amaç",
}


def access_report(store: ConsentStore, principal: str, now: int | None = None) -> dict[str, Any]:
    """All that the consent store holds about a person, ready for JSON.

    Raises:
        ConsentError: the person is unknown.
        ConsentStoreError: the store cannot be read.
    """
    moment = now_us() if now is None else now
    events = keeping.history(store, principal)
    purposes = list(dict.fromkeys(event.purpose for event in events))
    shared = shared_fields(store)
    states = keeping.states(store, principal, purposes, moment)
    return {
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
        "states": {purpose: found.reason.word for purpose, found in states.items()},
        "runs": _runs(store, principal),
        "requests": [
            {
                "id": item.id,
                "kind": item.kind,
                "opened_at": show_time(item.opened_at),
                "due_at": show_time(item.due_at),
                "outcome": item.outcome,
            }
            for item in requests.of_person(store, principal)
        ],
        "exports": [
            {
                "recipient": item.recipient,
                "what": item.what,
                "exported_at": show_time(item.exported_at),
            }
            for item in exports.list_exports(store, principal)
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

    parts: list[tuple[str, list[str]]] = [
        (
            "states",
            [f"{purpose}: {said(reason)}" for purpose, reason in report["states"].items()],
        ),
        (
            "events",
            [f"{e['time']}  {e['purpose']}: {said(e['event_type'])}" for e in report["events"]],
        ),
        ("runs", [f"{item['run']}: {item['decision']}" for item in report["runs"]]),
        (
            "requests",
            [f"{r['id']}: {r['kind']} ({words['due']}: {r['due_at']})" for r in report["requests"]],
        ),
        (
            "exports",
            [f"{e['exported_at']}  {e['recipient']}: {e['what']}" for e in report["exports"]],
        ),
        ("incidents", [f"{i['known_at']}  {i['what']}" for i in report["incidents"]]),
    ]
    lines = [f"{words['title']} {report['pii_principal_id']}"]
    lines.append(f"{words['made']}: {report['made_at']}")
    for name, items in parts:
        lines += ["", words[name], *(f"- {item}" for item in items or [words["none"]])]
    return "\n".join(lines) + "\n"


def _runs(store: ConsentStore, principal: str) -> list[dict[str, str | None]]:
    key = store.pseudonyms([principal])[0]
    query = (
        sa.select(LeafRow.run, LeafRow.decision, TreeRow.moment)
        .join(Person, Person.no == LeafRow.person)
        .join(TreeRow, TreeRow.run == LeafRow.run)
        .where(Person.key == key)
        .order_by(TreeRow.moment)
    )
    with store.reading() as connection:
        return [
            {"run": run, "decision": decision, "at": show_time(moment)}
            for run, decision, moment in connection.execute(query)
        ]
