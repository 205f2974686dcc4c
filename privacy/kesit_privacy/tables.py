"""TOML tables and checked values: files that people write, with errors that name the field."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kesit_privacy.errors import StudyError

T = TypeVar("T")

MAX_BYTES = 4 << 20


def read_tables(path: Path) -> dict[str, Any]:
    """Parsed TOML of a study file, its local tables included.

    Raises:
        StudyError: missing, too large, not UTF-8, or not TOML.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StudyError(
            str(path),
            f"cannot be read ({error.strerror}).",
            remedy="Give the path of a study file; `kesit study new FILE` writes one.",
        ) from error
    if len(raw) > MAX_BYTES:
        raise StudyError(
            str(path), f"is larger than {MAX_BYTES >> 20} MiB.", remedy="Is it a study file?"
        )
    try:
        return parse(raw.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise StudyError(
            str(path), f"is not UTF-8 (byte {error.start}).", remedy="Save the file as UTF-8."
        ) from error


def validated(cls: type[T], tables: dict[str, Any]) -> T:
    """`tables` as a checked `cls` (a pydantic dataclass).

    Raises:
        StudyError: naming the first field that is wrong.
    """
    try:
        # TOML's dates and times fit no field: as lists they are refused where they stand.
        text = json.dumps(tables, default=lambda moment: [str(moment)])
        return TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        # A misspelt field shows as an unknown one and a missing one: name what the author wrote.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "unexpected_keyword_argument")
        first = errors[0]
        field = ".".join(
            str(part) for part in first["loc"] if part not in ("numeric", "categorical")
        )
        cause = first["msg"].removeprefix("Value error, ")
        if first["type"] == "unexpected_keyword_argument":
            cause = "is not a field that is known here"
        raise StudyError(
            field or "study",
            f"{cause[0].lower()}{cause[1:]}.",
            remedy="Correct this field; `kesit study new -` prints a template that explains it.",
        ) from error


def parse(text: str, place: str) -> dict[str, Any]:
    """Parsed TOML; `place` names the text in an error.

    Raises:
        StudyError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(place, f"is not TOML: {error}.", remedy="Correct that line.") from error
