"""Released segments on a client's own customers: a code for each, and why one of them has it.

It runs where the rows are; `given_out` says who may have a code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import numpy as np
import polars as pl

from kesit_client.errors import SourceError
from kesit_client.home import POLICY, SOURCE, read_source
from kesit_client.owner.policy import Policy
from kesit_client.results.given_out import GivenOut, own_row, permitted, require_ground
from kesit_client.rows.coding import encode_features
from kesit_privacy.features import GRID
from kesit_privacy.segment_file import SegmentModel

COLUMNS = ("segment", "name", "distance")


def assign(
    segments: SegmentModel, table: pl.DataFrame, id_column: str, language: Literal["en", "tr"]
) -> pl.DataFrame:
    """The segment of each customer of a table: the id, the segment's number and name, and how far
    its centre is (1 is one feature's whole range).

    Raises:
        SourceError: the id's column has the name of one of the others.
    """
    if id_column in COLUMNS:
        raise SourceError(
            f"The id's column is called {id_column!r}, as a column of the segments is.",
            remedy="Give the id's column another name in the source.",
        )
    names = [feature.name for feature in segments.features]
    codes, ids = encode_features(
        table.select(id_column, *names), segments.features, id_column, len(names)
    )
    labels, far = segments.assign(codes)
    called = np.array([name[language] for name in segments.names], dtype=object)
    found = (labels + 1, called[labels], np.round(far, 4))
    return pl.DataFrame(
        [ids, *(pl.Series(name, values) for name, values in zip(COLUMNS, found, strict=True))]
    )


def assign_home(
    home: Path,
    segments: SegmentModel,
    language: Literal["en", "tr"] = "en",
    now: float | None = None,
) -> GivenOut:
    """Segments of the customers of a node's own source who may have a code.

    Raises:
        SourceError: the source cannot be read, or lacks a column.
        ConsentError: the consents cannot be read; then nobody has one.
    """
    source, policy = read_source(home / SOURCE), Policy.load(home / POLICY)
    table = source.read([feature.name for feature in segments.features])
    found = assign(segments, table, source.id_column, language)
    return permitted(home, policy, segments, found, now)


@dataclass(frozen=True)
class Reasons:
    """Why a customer is in a segment and not in the next one.

    Attributes:
        segment, other: numbers of the nearest segment and of the second (None if there is one).
        distances: to each segment's centre (1 is one feature's whole range).
        parts: (feature, its value (`OwnRow`), how much farther the second centre is by this
            feature, as a share of all features' differences that speak for the nearest), largest
            first. They add up to the difference of the squared distances, over the same sum.
        objects: whether the customer has an open objection, which a human must answer.
    """

    segment: int
    other: int | None
    distances: tuple[float, ...]
    parts: tuple[tuple[str, str, float], ...]
    objects: bool


def explain_home(
    home: Path, segments: SegmentModel, customer: str, now: float | None = None
) -> Reasons:
    """The reasons for one customer of a node's own source, who has a ground for the purpose.

    Raises:
        SourceError: the source cannot be read, or holds no such customer.
        ConsentError: the consents cannot be read; or there is neither ground nor objection.
    """
    source, policy = read_source(home / SOURCE), Policy.load(home / POLICY)
    customer = normalize("NFC", customer.strip())
    objects = require_ground(home, policy, segments, customer, now)
    names = [feature.name for feature in segments.features]
    own = own_row(source.read(names), segments.features, source.id_column, customer)
    squared = segments.parts(own.codes)[0]
    order = np.argsort(squared.sum(axis=1), kind="stable")
    nearest, other = int(order[0]), int(order[1]) if len(order) > 1 else None
    apart = np.zeros(len(names)) if other is None else squared[other] - squared[nearest]
    shares = apart / max(float(apart[apart > 0].sum()), 1.0)
    told = [
        (feature.name, value, float(share))
        for feature, value, share in zip(segments.features, own.values, shares, strict=True)
    ]
    return Reasons(
        nearest + 1,
        None if other is None else other + 1,
        tuple(float(x) for x in np.sqrt(squared.sum(axis=1)) / GRID),
        tuple(sorted(told, key=lambda part: -abs(part[2]))),
        objects,
    )
