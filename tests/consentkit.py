"""Consent files and stores for tests."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kesit_client.consent.attesting import attest, place_of, prove
from kesit_client.consent.events import SECOND, read_time
from kesit_client.consent.gate import Gate
from kesit_client.consent.importing import Imported, import_file
from kesit_client.consent.jsonld import write_records
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import NEEDED_TERMS
from kesit_client.node import Node
from kesit_client.rows.cache import CachedRows
from kesit_client.rows.sources import FileSource
from kesit_privacy.attestation import Attestation, Proof, read_attestation
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode
from kit import Session, ask, begin, instruct, mixed_study, say_hello

PURPOSE = "customer-segmentation"
NOTICE, TEXT = "ab" * 32, "cd" * 32
GIVEN_AT = "2026-03-02T10:00:00+03:00"
NOW = read_time("2026-06-01T00:00:00+03:00")[0]
DAY = 86_400 * SECOND

SHARED = dict.fromkeys(NEEDED_TERMS, "stated") | {
    "schema_version": "kesit-27560-1",
    "language": "tr",
    "jurisdiction": "TR",
    "privacy_notice": "aydinlatma-v3",
}


def row(person: str, **changes: Any) -> dict[str, Any]:
    """A consent that is in order, with `changes`."""
    return {
        "record_id": f"r-{person}",
        "event_id": f"click-{person}",
        "pii_principal_id": person,
        "purpose": PURPOSE,
        "lawful_basis": "explicit-consent",
        "event_type": "given",
        "event_state": "valid",
        "event_time": GIVEN_AT,
        "validity_duration": "P2Y",
        "notice_hash": NOTICE,
        "consent_text_hash": TEXT,
        "notice_shown_at": "2026-03-02T09:58:00+03:00",
        "collection_channel": "branch",
        **SHARED,
        **changes,
    }


def lasting(person: str, **changes: Any) -> dict[str, Any]:
    """The same without an end, where the machine's own clock decides: tests outlive two years."""
    return row(person, **({"validity_duration": None} | changes))


def withdrawal(
    person: str, at: str = "2026-04-01T12:00:00+03:00", **changes: Any
) -> dict[str, Any]:
    """A person takes the consent back."""
    return {
        "record_id": f"r-{person}",
        "pii_principal_id": person,
        "purpose": PURPOSE,
        "event_type": "withdrawn",
        "event_time": at,
        **changes,
    }


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A CSV, Parquet or JSON-LD file of these rows."""
    rows = list(rows)
    if path.suffix == ".jsonld":
        path.write_bytes(write_records(rows))
        return path
    names = dict.fromkeys(name for each in rows for name in each)
    table = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


def load(
    store: ConsentStore, place: Path, rows: Iterable[dict[str, Any]], **options: Any
) -> Imported:
    """Import rows through a file; `suffix` is that of its name."""
    file = write(place / f"consents{options.pop('suffix', '.csv')}", rows)
    return import_file(store, file, **({"purposes": (PURPOSE,), "now": NOW} | options))


def settings(**fields: Any) -> ConsentSettings:
    """consent.toml's values."""
    return ConsentSettings(**fields)


PEOPLE = 40


class Place:
    """A client's folder with customers, consents and a gate whose clock stands."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.home, self.study, self.now = folder, study, float(NOW // SECOND)
        rng = np.random.default_rng(5)
        self.table = pl.DataFrame(
            {
                "id": [f" p{n}" for n in range(PEOPLE)],
                **{name: rng.random(PEOPLE).round(3) for name in ("a", "b", "c")},
                "income": rng.integers(0, 1000, PEOPLE),
                "channel": ["web", "shop"] * (PEOPLE // 2),
            }
        )
        self.table.write_csv(folder / "customers.csv")
        self.gate = Gate(folder, study, lambda: self.now)
        self.load(*(row(f"p{n}") for n in range(PEOPLE - 4)))

    def load(self, *rows: dict[str, str]) -> None:
        """Import rows."""
        with closing(ConsentStore.open(self.home)) as store:
            found = load(store, self.home, rows, now=int(self.now * SECOND))
        assert not len(found.refused), found.refused

    def rows(self) -> CachedRows:
        """Rows as a node opens them."""
        source = FileSource(self.home / "customers.csv", "id")
        return CachedRows(source, self.study, self.home / "cache", self.gate)


class Attesting:
    """Three members; the first keeps consents and attests."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder, mixed_study())
        self.session: Session = begin(self.place.study, clients=3, rows=0)
        first = self.session.nodes[0]
        self.node: Node = replace(first, rows=lambda study: self.place.rows(), _secrets={})
        self.node.attest = lambda run, study: self.attest(run)
        self.nodes = [self.node, *self.session.nodes[1:]]

    def attest(self, run: str) -> Path:
        """Sign what the first member did."""
        return attest(
            self.place.home,
            run,
            self.place.study,
            identity=self.node.identity,
            books=self.node.store,
            consent="required",
            rule_pack=("tr-kvkk", "1"),
            verdicts=[{"rule": "KVKK-4", "verdict": "pass"}],
            now=NOW // SECOND,
        )

    def run(self) -> str:
        """A whole run with one sum; its id."""
        transcript = say_hello(self.place.study, self.nodes)
        order = instruct(self.place.study, transcript, "marginals", self.session.query)
        assert {ask(node, order, transcript)[0] for node in self.nodes} == {RefusalCode.OK}
        assert self.node.end(transcript.request.encoded) == bytes([RefusalCode.OK])
        return order.run

    def read(self, run: str) -> Attestation:
        """The run's attestation."""
        return read_attestation(place_of(self.place.home, run).read_bytes())

    def prove(self, person: str, run: str) -> Proof:
        """A person's proof."""
        with closing(ConsentStore.open(self.place.home)) as store:
            return prove(store, person, run)
