"""Small edits of a TOML file that leave its owner's comments and order alone.

Each edit works on lines and then proves itself: the new text must parse to the old tables with that
one change, or nothing is changed and the owner is told what to write by hand.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

from kesit_client.errors import PolicyError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ENTRY = re.compile(
    r"""^(\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*=\s*)"""
    r"""("(?:[^"\\]|\\.)*"|'[^']*')(.*)$"""
)


def set_entry(text: str, table: str, key: str, value: str) -> str:
    """`text` with `key = "value"` in `[table]`, new or in place of what stood there.

    Raises:
        PolicyError: the file is written in a way that this edit does not understand.
    """
    lines = text.splitlines(keepends=True)
    line = f"{_quoted(key)} = {json.dumps(value)}"
    start = _header(lines, table)
    if start is None:
        gap = "" if not lines or not lines[-1].strip() else _newline(text)
        lines = [*_ended(lines, text), gap, _line(f"[{table}]", text), _line(line, text)]
    else:
        end = _end(lines, start)
        place = _find(lines, start, end, key)
        if place is None:
            while end > start + 1 and not lines[end - 1].strip():
                end -= 1
            lines[:end] = [*_ended(lines[:end], text), _line(line, text)]
        else:
            found = _ENTRY.match(lines[place].rstrip("\r\n"))
            if found:
                lines[place] = _line(found[1] + json.dumps(value) + found[3], text)

    def change(tables: dict[str, Any]) -> None:
        tables.setdefault(table, {})[key] = value

    return _proved(text, "".join(lines), change, f"write {line} under [{table}]")


def remove_entry(text: str, table: str, key: str) -> str:
    """`text` without `key` in `[table]`, where it stands.

    Raises:
        PolicyError: the file is written in a way that this edit does not understand.
    """
    lines = text.splitlines(keepends=True)
    start = _header(lines, table)
    place = None if start is None else _find(lines, start, _end(lines, start), key)
    if place is not None:
        del lines[place]

    def change(tables: dict[str, Any]) -> None:
        del tables[table][key]

    return _proved(text, "".join(lines), change, f"delete {_quoted(key)} under [{table}]")


def add_item(text: str, array: str, item: str) -> str:
    """`text` with the string `item` at the front of the top-level `array`.

    Raises:
        PolicyError: the file is written in a way that this edit does not understand.
    """
    found = re.search(rf"^[ \t]*{re.escape(array)}[ \t]*=[ \t]*\[", text, re.MULTILINE)
    new = text
    if found:
        rest = text[found.end() :]
        comma = "" if re.match(r"\s*\]", rest) else ", "
        new = text[: found.end()] + json.dumps(item) + comma + rest.lstrip(" \t")

    def change(tables: dict[str, Any]) -> None:
        tables[array] = [item, *tables[array]]

    return _proved(text, new, change, f"add {json.dumps(item)} to {array}")


def remove_item(text: str, array: str, item: str) -> str:
    """`text` without the string `item` in the top-level `array`, where it stands once.

    Raises:
        PolicyError: the file is written in a way that this edit does not understand.
    """
    found = re.search(rf"^[ \t]*{re.escape(array)}[ \t]*=[ \t]*\[", text, re.MULTILINE)
    new = text
    if found:
        literal = rf"(\"{re.escape(item)}\"|'{re.escape(item)}')[ \t]*,?[ \t]*"
        new = text[: found.end()] + re.sub(literal, "", text[found.end() :], count=1)

    def change(tables: dict[str, Any]) -> None:
        tables[array].remove(item)

    return _proved(text, new, change, f"delete {json.dumps(item)} from {array}")


def _proved(old: str, new: str, change: Callable[[dict[str, Any]], None], by_hand: str) -> str:
    wanted = copy.deepcopy(tomllib.loads(old))
    change(wanted)
    try:
        same = tomllib.loads(new) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise PolicyError(
            "The policy is written in a way that this command cannot edit; nothing was changed.",
            remedy=f"Edit the file yourself: {by_hand}.",
        )
    return new


def _header(lines: list[str], table: str) -> int | None:
    wanted = re.compile(rf"^\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?$")
    return next((place for place, line in enumerate(lines) if wanted.match(line)), None)


def _end(lines: list[str], start: int) -> int:
    """Where the table of the header at `start` ends, the next one's comments left to it."""
    headers = (n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("["))
    end = next(headers, len(lines))
    if end < len(lines):
        while end > start + 1 and lines[end - 1].lstrip().startswith("#"):
            end -= 1
    return end


def _find(lines: list[str], start: int, end: int, key: str) -> int | None:
    for place in range(start + 1, end):
        try:
            if list(tomllib.loads(lines[place])) == [key]:
                return place
        except tomllib.TOMLDecodeError:
            continue
    return None


def _quoted(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _line(content: str, text: str) -> str:
    return content + _newline(text)


def _ended(lines: list[str], text: str) -> list[str]:
    if not lines or lines[-1].endswith("\n"):
        return lines
    return [*lines[:-1], _line(lines[-1], text)]
