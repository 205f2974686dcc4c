"""A member's studies as entries for the inventory of processing activities (VERBIS).

What is declared in VERBIS is compared with these entries by a person, who attests it
(`verbis-scope`). Nothing in them is about a person; what nobody recorded is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import polars as pl

from kesit_client.consent.cells import guarded
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.store import ConsentStore
from kesit_client.home import own_request, read_members
from kesit_client.rights.exports import list_exports
from kesit_privacy.rules import ATTESTATIONS, Language, Records, load_records, member_places
from kesit_privacy.rules.named import ground_tr
from kesit_privacy.study import Study

HOME: Final = "TR"
UNKNOWN: Final = {"en": "unknown", "tr": "bilinmiyor"}
NONE: Final = {"en": "none", "tr": "yok"}
HEADINGS: Final[dict[str, dict[str, str]]] = {
    "activity": {"en": "activity id", "tr": "faaliyet no"},
    "study": {"en": "study", "tr": "çalışma"},
    "hash": {"en": "hash", "tr": "özet değeri"},
    "purpose": {"en": "purpose", "tr": "işleme amacı"},
    "ground": {"en": "ground", "tr": "işleme şartı"},
    "persons": {"en": "persons", "tr": "veri konusu kişi grubu"},
    "data": {"en": "data", "tr": "veriler"},
    "special": {"en": "special categories", "tr": "özel nitelikli veriler"},
    "recipients": {"en": "recipients", "tr": "alıcılar"},
    "abroad": {"en": "transfer abroad", "tr": "yurt dışına aktarım"},
    "retention": {"en": "retention (days)", "tr": "saklama süresi (gün)"},
    "security": {"en": "security measures attested", "tr": "güvenlik tedbirleri beyanı"},
}


def entries(home: Path, studies: Sequence[Study], language: Language = "tr") -> bytes:
    """The inventory of these studies as CSV, one row each.

    Raises:
        KesitError: this is no client's folder, or a file in it is broken; the error names it.
    """
    own_request(home)
    path = home / ATTESTATIONS
    records = load_records(path) if path.exists() else Records()
    shared = {
        "activity": ConsentSettings.load(home).defaults.get("verbis_activity_id"),
        "persons": "customers" if language == "en" else "müşteriler",
        "recipients": _recipients(home, records, language),
        "abroad": _abroad(home, records, language),
        "security": _security(records),
    }
    rows = []
    for study in studies:
        row = {**shared, **_of_study(study, language)}
        rows.append([row[key] or UNKNOWN[language] for key in HEADINGS])
    names = [words[language] for words in HEADINGS.values()]
    table = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return guarded(table).write_csv(None).encode()


def _of_study(study: Study, language: Language) -> dict[str, str | None]:
    said = study.processing
    tagged = [f.name for f in study.features if "special-category" in f.tags]
    seen = all(f.tags for f in study.features)
    days = None if said is None else said.retention_days
    sentence = None if said is None else said.description
    return {
        "study": study.name,
        "hash": study.hash,
        "purpose": study.purpose if sentence is None else f"{study.purpose}: {sentence}",
        "ground": study.legal_basis if language == "en" else ground_tr(study.legal_basis),
        "data": ", ".join(feature.name for feature in study.features),
        "special": ", ".join(tagged) or (NONE[language] if seen else None),
        "retention": None if days is None else str(days),
    }


def _recipients(home: Path, records: Records, language: Language) -> str | None:
    """Those that were written down, and those of the register of exports."""
    names = [recipient.name for recipient in records.recipients or ()]
    settings = ConsentSettings.load(home)
    if settings.kept(home):
        with closing(ConsentStore.open(home, settings, create=False)) as store:
            names += [export.recipient for export in list_exports(store)]
    known = NONE[language] if records.recipients is not None else None
    return ", ".join(dict.fromkeys(names)) or known


def _abroad(home: Path, records: Records, language: Language) -> str | None:
    places = member_places(read_members(home), records.places)
    if not places or any(place.region is None for place in places):
        return None
    abroad = [place for place in places if place.region != HOME]
    if not abroad:
        return NONE[language]
    unknown = UNKNOWN[language]
    return ", ".join(f"{p.name} ({p.region}, {p.basis or unknown})" for p in abroad)


def _security(records: Records) -> str | None:
    dates = [a.date for a in records.attestations if a.kind == "security-measures"]
    return max(dates).isoformat() if dates else None
