"""A released model on a client's own customers: chances, and the reasons for one of them.

It runs where the rows are, and nothing leaves but the file that the owner asked for. A chance about
a person is personal data: where consents are kept, only customers who have a ground for the model's
purpose at that moment are scored, and nobody with an open objection to automated decisions.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import polars as pl

from kesit_client.coding import encode_features, written_ids
from kesit_client.consent.cells import guarded
from kesit_client.consent.gate import allowed
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.state import reads_special
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError, SourceError
from kesit_client.home import POLICY, SOURCE, read_source
from kesit_client.policy import Policy
from kesit_client.rights.exports import Export, record_export
from kesit_client.rights.requests import suppressed
from kesit_privacy.features import CodeArray, Feature, FloatArray, Numeric
from kesit_privacy.files import replacing
from kesit_privacy.model_file import ScoringModel

CHUNK = 1 << 16
"""Customers at a time: results do not depend on it."""

THREADS = 2


@dataclass(frozen=True)
class Scored:
    """Scores of customers, and who was left out.

    Attributes:
        table: the id, and `chance: <class>` of each class (of two, the second alone).
        without_ground: customers who have no ground for the model's purpose now; None where the
            policy says that no consents are kept.
        suppressed: those of the rest with an open objection.
    """

    table: pl.DataFrame
    without_ground: int | None
    suppressed: int


def score(model: ScoringModel, table: pl.DataFrame, id_column: str) -> pl.DataFrame:
    """Chances for a table of customers; a value that the study did not know has a cell, too.

    Raises:
        SourceError: the id's column has the name of one of the scores.
    """
    names = [feature.name for feature in model.features]
    codes, ids = encode_features(
        table.select(id_column, *names), model.features, id_column, len(names)
    )
    chances = _chances(model, codes)
    told = [1] if len(model.classes) == 2 else range(len(model.classes))
    columns = {f"chance: {model.classes[kind]}": chances[:, kind] for kind in told}
    if id_column in columns:
        raise SourceError(
            f"The id's column is called {id_column!r}, as a column of the scores would be.",
            remedy="Give the id's column another name in the source.",
        )
    return pl.DataFrame([ids, *(pl.Series(name, found) for name, found in columns.items())])


def score_home(home: Path, model: ScoringModel, now: float | None = None) -> Scored:
    """Chances for the customers of a node's own source who may be scored.

    Raises:
        SourceError: the source cannot be read, or lacks a column.
        ConsentError: the consents cannot be read; then nobody is scored.
    """
    source, policy = read_source(home / SOURCE), Policy.load(home / POLICY)
    table = source.read([feature.name for feature in model.features])
    scored = score(model, table, source.id_column)
    ids = written_ids(scored[source.id_column])
    kept, may = policy.consent != "not-kept", np.ones(len(ids), dtype=np.bool_)
    if kept:
        moment, special = time.time() if now is None else now, reads_special(model)
        may = allowed(home, model.purpose, model.legal_basis, ids, moment, special=special)
    held = _objecting(home, ids, kept=kept)
    held_back = np.array([name in held for name in ids], dtype=np.bool_) & may
    without = int((~may).sum()) if kept else None
    return Scored(scored.filter(may & ~held_back), without, int(held_back.sum()))


def _objecting(home: Path, ids: list[str], *, kept: bool) -> frozenset[str]:
    """Those with an open objection; where no consents are kept, requests may still be."""
    if not kept and not ConsentSettings.load(home).kept(home):
        return frozenset()
    with closing(ConsentStore.open(home, create=False)) as store:
        return suppressed(store, ids)


def record(home: Path, model: ScoringModel, scored: Scored, recipient: str) -> Export | None:
    """Note that a recipient gets the scores of exactly these customers; None if there are none.

    Before the file is written: what is given out is never missing in the register.

    Raises:
        ConsentError: no recipient.
        ConsentStoreError: the store refuses; then nothing may be given out.
    """
    ids = written_ids(scored.table[scored.table.columns[0]])
    if not ids:
        return None
    with closing(ConsentStore.open(home)) as store:
        what = f"chances of {model.target}"
        return record_export(store, recipient, what, ids, purpose=model.purpose)


def require_format(path: Path) -> None:
    """Refuse a file of scores that ends otherwise than `write` can.

    Raises:
        SourceError: it does.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise SourceError(
            f"{path}: has an unknown format.", remedy="Use a name that ends in .csv or .parquet."
        )


def write(table: pl.DataFrame, path: Path) -> None:
    """Write scores as Parquet (`.parquet`) or CSV, for their owner's eyes alone.

    Raises:
        SourceError: the disk refuses, or the name ends otherwise.
    """
    require_format(path)
    try:
        with replacing(path, private=True) as file:
            if path.suffix.lower() == ".parquet":
                table.write_parquet(file)
            else:
                guarded(table, signed=False).write_csv(file)
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Check the place and the room on the disk.",
        ) from error


@dataclass(frozen=True)
class Reasons:
    """Why the model says what it says of one customer.

    Attributes:
        chances: of each class.
        kind: the class that the reasons speak for (of two, the second; of more, the likeliest).
        parts: (feature, value as the model sees it, logits beyond what is usual), largest first.
        objects: whether the customer has an open objection, which a human must answer.
    """

    chances: dict[str, float]
    kind: str
    parts: tuple[tuple[str, str, float], ...]
    objects: bool = False


def explain_home(
    home: Path, model: ScoringModel, customer: str, now: float | None = None
) -> Reasons:
    """The reasons for one customer of a node's own source, who has a ground for the purpose.

    Whoever objects has no score, but is owed an answer by a human, who needs the reasons.

    Raises:
        SourceError: the source cannot be read, or holds no such customer.
        ConsentError: the consents cannot be read; or there is neither ground nor objection.
    """
    source, policy = read_source(home / SOURCE), Policy.load(home / POLICY)
    customer = normalize("NFC", customer.strip())
    kept, may = policy.consent != "not-kept", True
    if kept:
        moment, special = time.time() if now is None else now, reads_special(model)
        ids = [customer]
        (may,) = allowed(home, model.purpose, model.legal_basis, ids, moment, special=special)
    objects = customer in _objecting(home, [customer], kept=kept)
    if not may and not objects:
        raise ConsentError(
            f"The customer {customer!r} has no ground for {model.purpose!r} now.",
            remedy="Record the consent, or another ground, before the model is used.",
        )
    table = source.read([feature.name for feature in model.features])
    return replace(explain(model, table, source.id_column, customer), objects=objects)


def explain(model: ScoringModel, table: pl.DataFrame, id_column: str, customer: str) -> Reasons:
    """The reasons for one customer of a table, by the id as it is written.

    It asks for no ground; `explain_home` does.

    Raises:
        SourceError: there is no such customer.
    """
    names = [feature.name for feature in model.features]
    codes, ids = encode_features(
        table.select(id_column, *names), model.features, id_column, len(names)
    )
    written = written_ids(ids)
    if customer not in written:
        raise SourceError(
            f"There is no customer {customer!r} in the source.",
            remedy="Check the id as it stands in the source.",
        )
    place = written.index(customer)
    own = codes[place : place + 1]
    chances = model.chances(own)[0]
    kind = 1 if len(chances) == 2 else int(chances.argmax())
    logit = 0 if len(chances) == 2 else kind
    parts = model.reasons(own)[0, :, logit]
    told = [
        (feature.name, _value(feature, int(code)), float(part))
        for feature, code, part in zip(model.features, own[0], parts, strict=True)
    ]
    return Reasons(
        dict(zip(model.classes, map(float, chances), strict=True)),
        model.classes[kind],
        tuple(sorted(told, key=lambda part: -abs(part[2]))),
    )


def _value(feature: Feature, code: int) -> str:
    """A code as the model sees it, for a person."""
    if isinstance(feature, Numeric):
        if code < 0:
            return "(missing)"
        number = feature.decode(code)
        return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    return (*feature.levels, "(unknown)", "(missing)")[code]


def _chances(model: ScoringModel, codes: CodeArray) -> FloatArray:
    """Chunks on a few threads: NumPy lets go of the interpreter while it looks up cells."""
    found = np.empty((len(codes), len(model.classes)))

    def fill(start: int) -> None:
        found[start : start + CHUNK] = model.chances(codes[start : start + CHUNK])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(0, len(codes), CHUNK)))
    return found
