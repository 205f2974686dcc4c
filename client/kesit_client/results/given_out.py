"""What a node computes about its own customers: who may be in it, and how it is written.

A score or a segment code of a person is personal data: where consents are kept, only customers who
have a ground for the purpose at that moment are in it, and nobody with an open objection to
automated decisions. It is computed where the rows are, and nothing leaves but the file that the
owner asked for.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from kesit_client.consent.cells import guarded
from kesit_client.consent.gate import allowed
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.state import reads_special
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError, PolicyError, SourceError
from kesit_client.home import SOURCE, read_source
from kesit_client.owner.policy import Policy
from kesit_client.rights.exports import Export, record_export
from kesit_client.rights.requests import suppressed
from kesit_client.rows.coding import customers, encode_features, numbers, written_ids
from kesit_client.rows.sources import FileSource
from kesit_privacy.features import Categorical, CodeArray, Feature
from kesit_privacy.files import replacing
from kesit_privacy.model_file import ScoringModel
from kesit_privacy.segment_file import SegmentModel

Released = ScoringModel | SegmentModel
"""What a study released for its purpose alone."""


@dataclass(frozen=True)
class GivenOut:
    """A table of customers, the id first, and who was left out of it.

    Attributes:
        without_ground: customers who have no ground for the purpose now; None where the policy says
            that no consents are kept.
        suppressed: those of the rest with an open objection.
    """

    table: pl.DataFrame
    without_ground: int | None
    suppressed: int


def permitted(
    home: Path, policy: Policy, released: Released, table: pl.DataFrame, now: float | None = None
) -> GivenOut:
    """The rows of a table, the id first, that may be given out for the purpose at this moment.

    Raises:
        PolicyError: the policy does not allow the purpose.
        ConsentError: the consents cannot be read; then nobody is in it.
    """
    require_purpose(policy, released)
    ids = written_ids(table[table.columns[0]])
    kept, may = policy.consent != "not-kept", np.ones(len(ids), dtype=np.bool_)
    if kept:
        moment, special = time.time() if now is None else now, reads_special(released)
        may = allowed(home, released.purpose, released.legal_basis, ids, moment, special=special)
    held = objecting(home, ids, kept=kept)
    held_back = np.array([name in held for name in ids], dtype=np.bool_) & may
    without = int((~may).sum()) if kept else None
    return GivenOut(table.filter(may & ~held_back), without, int(held_back.sum()))


def require_ground(
    home: Path, policy: Policy, released: Released, customer: str, now: float | None = None
) -> bool:
    """Whether the customer objects; whoever does not must have a ground for the purpose now.

    Whoever objects is owed an answer by a human, who needs the reasons.

    Raises:
        PolicyError: the policy does not allow the purpose.
        ConsentError: the consents cannot be read; or there is neither ground nor objection.
    """
    require_purpose(policy, released)
    kept, may = policy.consent != "not-kept", True
    if kept:
        moment, special = time.time() if now is None else now, reads_special(released)
        purpose, basis, ids = released.purpose, released.legal_basis, [customer]
        (may,) = allowed(home, purpose, basis, ids, moment, special=special)
    objects = customer in objecting(home, [customer], kept=kept)
    if not may and not objects:
        raise ConsentError(
            f"The customer {customer!r} has no ground for {released.purpose!r} now.",
            remedy="Record the consent, or another ground, before the result is used.",
        )
    return objects


def require_purpose(policy: Policy, released: Released) -> None:
    """Refuse a result for a purpose that the owner does not allow: its file is not signed.

    Raises:
        PolicyError: the policy does not name the purpose.
    """
    if released.purpose not in policy.purposes:
        raise PolicyError(
            f"The policy does not allow the purpose {released.purpose!r} of this result.",
            remedy="Compare the file with the study that was approved; or add the purpose to the"
            " policy's purposes.",
        )


def objecting(home: Path, ids: list[str], *, kept: bool) -> frozenset[str]:
    """Those with an open objection; where no consents are kept, requests may still be."""
    if not kept and not ConsentSettings.load(home).kept(home):
        return frozenset()
    with closing(ConsentStore.open(home, create=False)) as store:
        return suppressed(store, ids)


def record(
    home: Path, given: GivenOut, released: Released, recipient: str, what: str
) -> Export | None:
    """Note that a recipient gets exactly these customers; None if there are none.

    Before the file is written: what is given out is never missing in the register.

    Raises:
        PolicyError: the result was only simulated.
        ConsentError: no recipient.
        ConsentStoreError: the store refuses; then nothing may be given out.
    """
    if not released.releasable:
        raise PolicyError(
            "This result was only simulated: nothing that it says of a person may be given out.",
            remedy="Run the study with `kesit server run`; or write the file without --recipient,"
            " for your own eyes.",
        )
    ids = written_ids(given.table[given.table.columns[0]])
    if not ids:
        return None
    with closing(ConsentStore.open(home)) as store:
        return record_export(store, recipient, what, ids, purpose=released.purpose)


def require_place(home: Path, path: Path) -> None:
    """Refuse a file that `write` could not write, or that would take the place of the source.

    Raises:
        SourceError: it ends otherwise than it can, lies in no folder, or is the node's source.
    """
    require_format(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise SourceError(
            f"{path}: no file can be written there.", remedy="Give a name in a folder that exists."
        )
    source = read_source(home / SOURCE)
    if isinstance(source, FileSource) and path.exists() and path.samefile(source.path):
        raise SourceError(
            f"{path}: is this node's own source, which would be lost.",
            remedy="Give the name of another file.",
        )


def require_format(path: Path) -> None:
    """Refuse a file that ends otherwise than `write` can.

    Raises:
        SourceError: it does.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise SourceError(
            f"{path}: has an unknown format.", remedy="Use a name that ends in .csv or .parquet."
        )


def write(table: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet (`.parquet`) or CSV, for their owner's eyes alone.

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
class OwnRow:
    """One customer's row.

    Attributes:
        codes: (1, features); values: of each feature, for a person: what the source holds, with an
            arrow to what is counted where a number lies beyond the bounds.
    """

    codes: CodeArray
    values: tuple[str, ...]


def own_row(
    table: pl.DataFrame, features: tuple[Feature, ...], id_column: str, customer: str
) -> OwnRow:
    """The row of one customer of a table, by the id as it is written.

    Raises:
        SourceError: there is no such customer.
    """
    table = table.select(id_column, *(feature.name for feature in features))
    written = written_ids(customers(table, id_column)[id_column])
    if customer not in written:
        raise SourceError(
            f"There is no customer {customer!r} in the source.",
            remedy="Check the id as it stands in the source.",
        )
    row = customers(table, id_column)[written.index(customer)]
    codes, _ = encode_features(row, features, id_column, len(features))
    values = [
        _shown(feature, int(code), row[feature.name])
        for feature, code in zip(features, codes[0], strict=True)
    ]
    return OwnRow(codes, tuple(values))


def _shown(feature: Feature, code: int, value: pl.Series) -> str:
    """A value (of one row) for a person."""
    if isinstance(feature, Categorical):
        return (*feature.levels, "(unknown)", "(missing)")[code]
    if code < 0:
        return "(missing)"
    number = float(numbers(value)[0])
    counted = min(max(number, feature.lower), feature.upper)
    return _written(number) if counted == number else f"{_written(number)} → {_written(counted)}"


def _written(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
