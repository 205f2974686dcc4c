"""A released model on a client's own customers: chances, and the reasons for one of them.

It runs where the rows are; `given_out` says who may be scored.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import polars as pl

from kesit_client.errors import SourceError
from kesit_client.home import POLICY, SOURCE, read_source
from kesit_client.owner.policy import Policy
from kesit_client.results.given_out import GivenOut, own_row, permitted, require_ground
from kesit_client.rows.coding import encode_features
from kesit_privacy.features import CodeArray, FloatArray
from kesit_privacy.model_file import ScoringModel

CHUNK = 1 << 16
"""Customers at a time: results do not depend on it."""

THREADS = 2


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


def score_home(home: Path, model: ScoringModel, now: float | None = None) -> GivenOut:
    """Chances for the customers of a node's own source who may be scored: the id, and
    `chance: <class>` of each class (of two, the second alone).

    Raises:
        SourceError: the source cannot be read, or lacks a column.
        ConsentError: the consents cannot be read; then nobody is scored.
    """
    source, policy = read_source(home / SOURCE), Policy.load(home / POLICY)
    table = source.read([feature.name for feature in model.features])
    return permitted(home, policy, model, score(model, table, source.id_column), now)


@dataclass(frozen=True)
class Reasons:
    """Why the model says what it says of one customer.

    Attributes:
        chances: of each class.
        kind: the class that the reasons speak for (of two, the second; of more, the likeliest).
        parts: (feature, its value (`OwnRow`), logits beyond what is usual), largest first.
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
    objects = require_ground(home, policy, model, customer, now)
    table = source.read([feature.name for feature in model.features])
    return replace(explain(model, table, source.id_column, customer), objects=objects)


def explain(model: ScoringModel, table: pl.DataFrame, id_column: str, customer: str) -> Reasons:
    """The reasons for one customer of a table, by the id as it is written.

    It asks for no ground; `explain_home` does.

    Raises:
        SourceError: there is no such customer.
    """
    own = own_row(table, model.features, id_column, customer)
    chances = model.chances(own.codes)[0]
    kind = 1 if len(chances) == 2 else int(chances.argmax())
    logit = 0 if len(chances) == 2 else kind
    parts = model.reasons(own.codes)[0, :, logit]
    told = [
        (feature.name, value, float(part))
        for feature, value, part in zip(model.features, own.values, parts, strict=True)
    ]
    return Reasons(
        dict(zip(model.classes, map(float, chances), strict=True)),
        model.classes[kind],
        tuple(sorted(told, key=lambda part: -abs(part[2]))),
    )


def _chances(model: ScoringModel, codes: CodeArray) -> FloatArray:
    """Chunks on a few threads: NumPy lets go of the interpreter while it looks up cells."""
    found = np.empty((len(codes), len(model.classes)))

    def fill(start: int) -> None:
        found[start : start + CHUNK] = model.chances(codes[start : start + CHUNK])

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fill, range(0, len(codes), CHUNK)))
    return found
