"""From a file's rows to events: what is wrong with a row is said with its reason, and only there.

Whole columns are examined at a time. Of several reasons against one row the first of the list is
given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from unicodedata import normalize

import polars as pl

from kesit_client.consent import columns, frames
from kesit_client.consent.events import SECOND, SKEW_SECONDS
from kesit_client.consent.reading import BREAKS, LINE, NEEDED, RawTable
from kesit_client.consent.terms import (
    BASES,
    CONSENT,
    DPV_BASIS,
    DPV_STATUS,
    EVENT_FIELDS,
    GRANTS,
    INVISIBLE,
    NEEDED_TERMS,
    TERMS,
    TYPE_OF_WORD,
    EventType,
)
from kesit_privacy import canonical

LONGEST: Final = 4000
_CONTROL: Final = r"[\x00-\x1f\x7f]"
_ROUNDED: Final = r"^[0-9]([.,][0-9]+[eE]\+?|[eE]\+)[0-9]+$"
_MOJIBAKE: Final = "Ä±|ÄŸ|ÅŸ|Ä°|Ã§|Ã¶|Ã¼|Å\u009e|Ä\u009e"
"""ı ğ ş İ ç ö ü Ş Ğ in UTF-8 that was read as Windows-1252 or -1254."""
_TIMES: Final = {"event_time": "time", "notice_shown_at": "notice_at", "iys_checked_at": "iys_at"}
_TIME_LIKE: Final = "2026-03-02T10:00:00+03:00"
_OF_CONSENTS: Final = ("event_id", "notice_hash", "consent_text_hash")
_IMPORTED: Final = [kind.word for kind in EventType if kind is not EventType.ERASED]
_KINDS: Final[dict[str, Any]] = {"known_purpose": pl.String, "known_shown": pl.Boolean}
_FLAGS: Final = (
    "profiling_consent",
    "automated_decision_objection",
    "minor",
    "special_categories",
)


@dataclass(frozen=True)
class Known:
    """What the store and the settings say, beside the file.

    Attributes:
        now: µs. purposes: for which records may be kept. defaults: values of shared fields.
        actions: `event_id`, `known_purpose` of grants in the store.
        shown: `event_id`, `known_shown` (true) of notices in the store.
        grants: `principal`, `purpose`, `known_grant` (µs of the earliest consent) in the store.
        erased: `principal`, `erased_at` (µs).
        objecting: persons whose objection is a request that is open here.
        controllers: to one of whom each ground must have been given; None for anybody.
    """

    now: int
    purposes: Iterable[str]
    defaults: Mapping[str, str] = field(default_factory=dict)
    actions: pl.DataFrame | None = None
    shown: pl.DataFrame | None = None
    grants: pl.DataFrame | None = None
    erased: pl.DataFrame | None = None
    objecting: frozenset[str] = frozenset()
    controllers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Examined:
    """What the rows are.

    Attributes:
        events: in the columns of `frames.SCHEMA`. terms: by hash. refused: line, id, reason.
        unmatched: withdrawals and expiries of what neither the file nor the store has given.
    """

    events: pl.DataFrame
    terms: dict[str, str]
    refused: pl.DataFrame
    unmatched: int


def examine(raw: RawTable, known: Known) -> Examined:
    """Every row of a file as an event, or as a refusal with its reason."""
    rows = _with_store(_typed(raw.rows, known.defaults), known)
    reasons = [
        pl.when(test).then(pl.lit(why) if isinstance(why, str) else why)
        for test, why in _tests(raw, known)
    ]
    rows = rows.with_columns(reason=pl.coalesce(*reasons, pl.lit(None, dtype=pl.String)))
    refused = rows.filter(pl.col("reason").is_not_null()).select(LINE, "record_id", "reason")
    good = rows.filter(pl.col("reason").is_null())
    ends = pl.col("type").is_in([EventType.WITHDRAWN.value, EventType.EXPIRED.value])
    ungiven = pl.all_horizontal(pl.col("first", "known_grant").is_null())
    unmatched = good.filter(ends & ungiven).height
    good, terms = _with_terms(good)
    return Examined(_events(good), terms, refused, unmatched)


def _typed(raw: pl.DataFrame, defaults: Mapping[str, str]) -> pl.DataFrame:
    """All columns, as text; beside them times, flags and codes as values."""
    empty = pl.Series([None] * len(raw), dtype=pl.String)
    names = (*EVENT_FIELDS, *TERMS)
    given = {name: raw[name] if name in raw.columns else empty for name in names}
    plain = {name: columns.text(column) for name, column in given.items()}
    plain |= {name: plain[name].str.to_lowercase() for name in ("notice_hash", "consent_text_hash")}
    table = {
        LINE: raw[LINE],
        BREAKS: raw[BREAKS],
        **{name: column.alias(name) for name, column in plain.items()},
    }
    for name, short in _TIMES.items():
        moment, offset = columns.times(given[name])
        table |= {short: moment.alias(short), f"{short}_offset": offset.alias(f"{short}_offset")}
    for name in _FLAGS:
        table[f"{name}_flag"] = columns.flags(given[name])
    words = {word: kind.value for word, kind in TYPE_OF_WORD.items()}
    words |= {term.lower(): kind.value for kind, term in DPV_STATUS.items()}
    table["type"] = (
        plain["event_type"]
        .str.to_lowercase()
        .replace_strict(words, default=None, return_dtype=pl.Int64)
    )
    grants = table["type"].is_in([kind.value for kind in GRANTS]).fill_null(False)
    for name in (name for name in defaults if name in plain):  # a grant's alone: others state none
        filled = plain[name].fill_null(defaults[name])
        table[name] = plain[name].zip_with(~grants, filled).alias(name)
    bases = {name: name for name in BASES} | {term: name for name, term in DPV_BASIS.items()}
    table["basis"] = (
        plain["lawful_basis"]
        .fill_null(CONSENT)
        .replace_strict(bases, default=None, return_dtype=pl.String)
    )
    table["adult_from"] = columns.adult_from(plain["birth_date"], table["minor_flag"])
    table["valid_until"] = columns.ends(
        table["time"], table["time_offset"], plain["validity_duration"]
    )
    return pl.DataFrame(table)


def _with_store(rows: pl.DataFrame, known: Known) -> pl.DataFrame:
    """The rows beside what is known of their action, their earliest grant and their person.

    `shows`: a notice of the file was shown by the row's action; `acts`: a grant was given by it.
    """
    grant = pl.col("type").is_in([kind.value for kind in GRANTS])
    given = rows.filter(grant)
    bundles = given.group_by("event_id").agg(purposes=pl.col("purpose").n_unique())
    consents = given.filter(pl.col("basis") == CONSENT)
    first = consents.group_by("pii_principal_id", "purpose").agg(first=pl.col("time").min())
    notice = pl.col("type") == EventType.NOTICE_SHOWN.value
    shown = rows.filter(notice)["event_id"].drop_nulls()
    acts = given["event_id"].drop_nulls() if len(shown) else shown
    rows = rows.with_columns(
        grant=grant,
        shows=pl.col("event_id").is_in(shown.implode()),
        acts=pl.col("event_id").is_in(acts.implode()),
    ).join(
        bundles.filter((pl.col("purposes") > 1) & pl.col("event_id").is_not_null()),
        on="event_id",
        how="left",
        maintain_order="left",
    )
    rows = rows.join(first, on=["pii_principal_id", "purpose"], how="left", maintain_order="left")
    for part, keys, value in (
        (known.actions, {"event_id": "event_id"}, "known_purpose"),
        (known.shown, {"event_id": "event_id"}, "known_shown"),
        (known.grants, {"pii_principal_id": "principal", "purpose": "purpose"}, "known_grant"),
        (known.erased, {"pii_principal_id": "principal"}, "erased_at"),
    ):
        if part is None or part.is_empty():
            kind = _KINDS.get(value, pl.Int64)
            rows = rows.with_columns(pl.lit(None, dtype=kind).alias(value))
        else:
            rows = rows.join(
                part,
                left_on=list(keys),
                right_on=list(keys.values()),
                how="left",
                maintain_order="left",
            )
    return rows


def _tests(raw: RawTable, known: Known) -> list[tuple[pl.Expr, str | pl.Expr]]:
    """(what is wrong, why it is) in the order in which they are said."""
    col = pl.col
    everything = pl.concat_str(
        [col(name).fill_null("") for name in (*EVENT_FIELDS, *TERMS)], separator="\n"
    )
    consent = col("grant") & (col("basis") == CONSENT)
    person = col("pii_principal_id")
    broken = raw.encoding or "its text holds the sign for lost characters"
    stated = [(name, col(short).is_null()) for name, short in _TIMES.items()]
    return [
        (
            col(BREAKS) > 0,
            "a quoted field goes on over several lines: a quote that is not closed takes the rows"
            " after it along",
        ),
        (
            everything.str.contains("\ufffd", literal=True),
            f"not UTF-8: {broken}; save the file as UTF-8",
        ),
        (
            everything.str.contains(_MOJIBAKE),
            "Turkish letters were read in the wrong encoding (UTF-8 taken for Windows-1254)",
        ),
        (
            pl.any_horizontal(
                col(name).str.contains(_CONTROL) | (col(name).str.len_chars() > LONGEST)
                for name in (*EVENT_FIELDS, *TERMS)
            ),
            f"a field holds control characters, or more than {LONGEST} characters",
        ),
        *((col(name).is_null(), f"{name} is missing") for name in NEEDED),
        (
            person.str.contains(INVISIBLE),
            "pii_principal_id holds invisible characters: it would be another person's",
        ),
        (
            person.str.contains(_ROUNDED),
            "pii_principal_id is a number that a spreadsheet rounded (4.71E+12)",
        ),
        (col("type").is_null(), f"unknown event_type; one of {', '.join(_IMPORTED)}"),
        (
            ~col("purpose").is_in(list(known.purposes)),
            "unknown purpose: neither policy.toml nor consent.toml names it",
        ),
        (col("basis").is_null(), f"unknown lawful_basis; one of {', '.join(BASES)}"),
        *(
            (
                wrong & col(name).is_not_null(),
                f"{name} is no ISO 8601 time with a UTC offset since 1900; write {_TIME_LIKE}",
            )
            for name, wrong in stated
        ),
        (
            col("time") > known.now + SKEW_SECONDS * SECOND,
            "event_time is in the future",
        ),
        *(
            (
                col(name).is_not_null() & col(f"{name}_flag").is_null(),
                f"{name} is neither true nor false; write one of them (evet and hayır will do)",
            )
            for name in _FLAGS
        ),
        (
            col("birth_date").is_not_null() & col("adult_from").is_null(),
            "birth_date is no date (YYYY-MM-DD)",
        ),
        (
            col("valid_until").is_null(),
            "validity_duration is no ISO 8601 duration (P2Y), or ends after the year 9998",
        ),
        *(
            (
                col(name).is_not_null() & ~col(name).str.contains("^[0-9a-f]{64}$"),
                f"{name} is no SHA-256 (64 hex digits)",
            )
            for name in ("notice_hash", "consent_text_hash")
        ),
        (
            col("grant") & pl.any_horizontal(col(name).is_null() for name in NEEDED_TERMS),
            pl.format(
                "missing: {} (neither in the row nor under [defaults] in consent.toml)",
                _missing(NEEDED_TERMS),
            ),
        ),
        (
            col("grant") & ~_named("pii_controllers", known.controllers),
            "pii_controllers names none of the controllers of consent.toml: it was given to others",
        ),
        (
            consent & pl.any_horizontal(col(name).is_null() for name in _OF_CONSENTS),
            pl.format("missing: {} (a consent needs each)", _missing(_OF_CONSENTS)),
        ),
        (
            col("notice_hash") == col("consent_text_hash"),
            "the notice and the consent are one text (Principle Decision 2026/347)",
        ),
        (
            consent & (col("notice_at") >= col("time")),
            "the notice was not shown before the consent",
        ),
        (
            col("grant")
            & (col("purposes").is_not_null() | (col("known_purpose") != col("purpose"))),
            "one action (event_id) for two purposes (Principle Decision 2025/1072)",
        ),
        (
            pl.when(col("type") == EventType.NOTICE_SHOWN.value)
            .then(col("acts") | col("known_purpose").is_not_null())
            .otherwise(consent & (col("shows") | col("known_shown"))),
            "one action (event_id) for the notice and the consent (Principle Decision 2026/347)",
        ),
        (
            (col("type") == EventType.WITHDRAWN.value)
            & (col("time") < pl.min_horizontal("first", "known_grant")),
            "the withdrawal is dated before the consent",
        ),
        (
            (col("type") == EventType.IYS_STATUS.value)
            & pl.any_horizontal(
                col(name).is_null() for name in ("iys_channel", "iys_status", "iys_checked_at")
            ),
            "iys_channel, iys_status or iys_checked_at is missing",
        ),
        (
            (col("type") == EventType.OBJECTION_CLOSED.value)
            & person.is_in(sorted(known.objecting)),
            "the objection is an open request: use `rights close`",
        ),
        (col("type") == EventType.ERASED.value, "an erasure is not imported: use `rights`"),
        (
            col("erased_at").is_not_null() & (col("time") <= col("erased_at")),
            "this person's data were erased after that",
        ),
    ]


def _named(column: str, names: tuple[str, ...] | None) -> pl.Expr:
    """Whether one of `names` is among a row's, which stand between semicolons."""
    if names is None:
        return pl.lit(True)
    wanted = [normalize("NFC", name.strip()) for name in names]
    own = pl.col(column).str.split(";").list.eval(pl.element().str.strip_chars().is_in(wanted))
    return own.list.any()


def _missing(names: Iterable[str]) -> pl.Expr:
    """Those of the fields that a row lacks."""
    lacking = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in names]
    return pl.concat_str(lacking, separator=", ", ignore_nulls=True)


def _with_terms(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows with the hash of their shared fields, and the fields by hash, as JSON."""
    if rows.is_empty():
        return rows.with_columns(terms=pl.lit("")), {}
    varying = [name for name in TERMS if not rows[name].eq_missing(rows[name][0]).all()]
    distinct = rows.select(TERMS).unique(subset=varying) if varying else rows.select(TERMS).head(1)
    texts = [_json(row) for row in distinct.to_dicts()]
    hashes = [_name(text) for text in texts]
    named = distinct.with_columns(terms=pl.Series(hashes))
    if not varying:
        rows = rows.with_columns(terms=pl.lit(hashes[0]))
    else:
        rows = rows.join(
            named.select(*varying, "terms"),
            on=varying,
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
    return rows, dict(zip(hashes, texts, strict=True))


def _name(text: str) -> str:
    """Of shared fields; "" where there are none, as for events that no file brought."""
    return "" if text == "{}" else canonical.digest(text.encode()).hex()[:32]


def _json(fields: Mapping[str, str | None]) -> str:
    present = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, sort_keys=True)


def _events(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in the columns of `frames.SCHEMA`, objections that records state among them."""
    named = rows.with_columns(
        principal="pii_principal_id",
        offset="time_offset",
        state="event_state",
        notice_shown_at="notice_at",
        channel="collection_channel",
        iys_checked_at="iys_at",
        profiling="profiling_consent_flag",
        special=pl.col("special_categories_flag").fill_null(False),
        special_ground="special_category_ground",
    )
    objecting = named.filter(
        pl.col("automated_decision_objection_flag").fill_null(False)
        & (pl.col("type") != EventType.OBJECTED.value)
    ).with_columns(type=pl.lit(EventType.OBJECTED.value, dtype=pl.Int64))
    return pl.concat([named, objecting]).select(
        pl.col(name).cast(kind) for name, kind in frames.SCHEMA.items()
    )
