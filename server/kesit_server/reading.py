"""Files of a result read back: what each begins with, and what no file of a result may hold."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kesit_privacy.errors import ProtocolError
from kesit_privacy.model_file import MODEL
from kesit_privacy.segment_file import SEGMENTS
from kesit_server import wording
from kesit_server.errors import ResultError
from kesit_server.results import EVALUATION
from kesit_server.wording import NOT_RELEASABLE, Language, Wording

T = TypeVar("T")

LARGEST = 1e15
"""No number in a result is as large; a file may come from anyone, and pictures have axes."""

WORDINGS = TypeAdapter(tuple[Wording, ...])


@dataclass(frozen=True)
class Heading:
    """Of what a result is, what it cost, and what limits it (`caveats`)."""

    study: str
    run: str
    epsilon: float
    delta: float
    releasable: bool
    caveats: tuple[Wording, ...]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Heading:
        """The heading of a parsed file.

        Raises:
            KeyError, ValueError: it has none.
        """
        text, number = TypeAdapter(str), TypeAdapter(float)
        return cls(
            text.validate_python(plain["study"], strict=True),
            text.validate_python(plain["run"], strict=True),
            number.validate_python(plain["epsilon_spent"]),
            number.validate_python(plain["delta"]),
            TypeAdapter(bool).validate_python(plain["releasable"], strict=True),
            WORDINGS.validate_python(plain["caveats"]),
        )

    def title(self, language: Language = "en") -> str:
        """Of what the result is, and what it cost, on one line."""
        words = {"en": ("Study", "run", "cost"), "tr": ("Çalışma", "çalıştırma", "maliyet")}
        study, run, cost = words[language]
        small = f"{self.delta:g}"
        small = small.replace(".", ",") if language == "tr" else small
        spent = f"ε = {wording.number(self.epsilon, language)}, δ = {small}"
        return f"{study} {self.study} · {run} {self.run[:8]} · {cost} {spent}"

    def over(self, parts: Sequence[str], language: Language) -> str:
        """The text of a result: whether it may be released, its title, its parts."""
        told = [words.of(language) for words in self.caveats]
        warning = [] if self.releasable else ["\n".join([NOT_RELEASABLE.of(language), *told])]
        return "\n\n".join([*warning, self.title(language), *parts])


_KINDS = (
    (SEGMENTS, "segments, and no classifier", "kesit segments show"),
    (MODEL, "a classifier, and no segments", "kesit model show"),
    (EVALUATION, "the evaluation of a released model, not the model", "kesit model show"),
)
"""Files by which a result is known, what it then holds, and the command that tells it."""


def require(path: Path) -> None:
    """Refuse a folder that holds another result than the one that is wanted.

    Args:
        path: the wanted file in it. If there is no result at all, whoever reads it says so.

    Raises:
        ResultError: naming what the folder holds, and the command for that.
    """
    if path.exists():
        return
    folder = path.parent
    for name, what, command in _KINDS:
        if (folder / name).exists():
            more = ""
            if name == EVALUATION:
                more = " The model is in the result folder whose model.json has the SHA-256 told."
            raise ResultError(
                f"{folder}: holds {what} ({name}; there is no {path.name}).",
                remedy=f"This result is another one: use `{command} {folder}`.{more}",
            )


def read_with(path: Path, build: Callable[[Mapping[str, Any]], T]) -> T:
    """A JSON file of a result, checked for numbers and texts that no result holds, and built.

    Raises:
        ResultError: missing, of another result, or broken.
    """
    require(path)
    try:
        data = path.read_bytes()
        plain = json.loads(data, parse_float=_finite, parse_int=_whole, parse_constant=_finite)
        _printable(plain)
        return build(plain)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Give the folder of a result, as `kesit simulate run` printed it.",
        ) from error
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OverflowError,
        ProtocolError,
    ) as error:
        raise ResultError(
            f"{path}: is broken, or was not written by this version of Kesit ({_short(error)}).",
            remedy="Give the folder of a result as it was written; or run the study again.",
        ) from error


def _printable(value: Any) -> None:
    """Refuse characters that would steer a terminal: a file may come from anyone."""
    if isinstance(value, str):
        if any(unicodedata.category(character) in _STEERING for character in value):
            raise ValueError("a text holds control characters")
    elif isinstance(value, dict):
        for name, part in value.items():
            _printable(name)
            _printable(part)
    elif isinstance(value, list):
        for part in value:
            _printable(part)


_STEERING = ("Cc", "Cf", "Zl", "Zp")


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) <= LARGEST:  # nor is "not a number"
        raise ValueError(f"{text[:30]} is no number of a result")
    return value


def _whole(text: str) -> int:
    return int(_finite(text))


def _short(error: Exception) -> str:
    """What is wrong, on one line."""
    text = f"without {error}" if isinstance(error, KeyError) else str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        text = f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(text.split())[:160]
