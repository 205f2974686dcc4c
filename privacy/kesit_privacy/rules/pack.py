"""Rule packs: data that name checks of the catalogue. Read strictly, or not at all."""

from __future__ import annotations

import datetime
import json
import tomllib
from dataclasses import field
from functools import cached_property
from importlib import resources
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from kesit_privacy import canonical
from kesit_privacy.features import STRICT
from kesit_privacy.rules.catalogue import CATALOGUE
from kesit_privacy.rules.errors import RulesError, first_problem
from kesit_privacy.rules.named import CONDITIONS
from kesit_privacy.rules.verdicts import Words

T = TypeVar("T")

Subject = Literal["study", "policy", "consent", "members", "release", "attestation"]
Severity = Literal["blocking", "serious", "advice"]
Id = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$", max_length=60)]

_FOLDER: Final = "packs"
_REMEDY: Final = "Correct the pack; docs/reference/rules.md explains its fields."


@dataclass(frozen=True, config=STRICT)
class Source:
    """Where a duty is published, and since when it holds."""

    dated: datetime.date
    name: Words


@dataclass(frozen=True, config=STRICT)
class Rule:
    """One duty, in plain words, and the check that looks at it.

    Attributes:
        needs_counsel: nobody confirmed our reading of the duty, so it can never pass by itself.
        when: the condition under which it applies, if not always.
        profile: the kind of organisation it is for, if not for all.
    """

    id: Id
    subject: Subject
    severity: Severity
    needs_counsel: bool
    source: str
    article: Words
    duty: Words
    remedy: Words
    check: str
    params: dict[str, Any] = field(default_factory=dict)
    when: str | None = None
    profile: Literal["bank"] | None = None

    @cached_property
    def checked_params(self) -> Any:
        """The parameters as the check wants them.

        Raises:
            ValidationError: they are others.
        """
        text = json.dumps(self.params)
        return TypeAdapter(CATALOGUE[self.check].params).validate_json(text, strict=True)


@dataclass(frozen=True, config=STRICT)
class Pack:
    """The rules of one jurisdiction."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$")]
    jurisdiction: Words
    sources: dict[str, Source]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def name(self) -> str:
        """Id, version and the beginning of the hash."""
        return f"{self.id} {self.version} ({self.hash[:16]})"


def pack_names() -> tuple[str, ...]:
    """Packs that come with Kesit, sorted."""
    files = resources.files("kesit_privacy.rules").joinpath(_FOLDER).iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load_pack(name: str) -> Pack:
    """A pack that comes with Kesit.

    Raises:
        RulesError: there is none of that name, or it is broken.
    """
    if name not in pack_names():
        raise RulesError(
            f"There is no rule pack called {name!r}.",
            remedy=f"Use one of: {', '.join(pack_names())}.",
        )
    folder = resources.files("kesit_privacy.rules").joinpath(_FOLDER)
    return read_pack(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"), name)


def read_pack(text: str, place: str) -> Pack:
    """A pack from TOML text; `place` names it in errors. Its hash covers values, not comments.

    Raises:
        RulesError: a field is unknown, missing or wrong; the error names the rule.
    """
    try:
        tables = json.loads(json.dumps(tomllib.loads(text), default=lambda day: day.isoformat()))
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{place}: is not TOML: {error}.", remedy=_REMEDY) from error
    if "hash" in tables:
        raise RulesError(f"{place}: hash is computed, not written.", remedy=_REMEDY)
    entries = tables.get("rules")
    for number, entry in enumerate(entries if isinstance(entries, list) else [], 1):
        named = entry.get("id", f"number {number}") if isinstance(entry, dict) else number
        _checked_rule(entry, f"{place}: rule {named}")
    digest = canonical.digest(canonical.encode(tables, floats=True)).hex()
    pack = _valid(Pack, {**tables, "hash": digest}, place)
    _check_whole(pack, place)
    return pack


def _checked_rule(entry: Any, place: str) -> None:
    rule = _valid(Rule, entry, place)
    if rule.check not in CATALOGUE:
        raise RulesError(f"{place}: there is no check called {rule.check!r}.", remedy=_REMEDY)
    if rule.when is not None and rule.when not in CONDITIONS:
        raise RulesError(f"{place}: there is no condition {rule.when!r}.", remedy=_REMEDY)
    try:
        _ = rule.checked_params
    except ValidationError as error:
        raise RulesError(f"{place}: params: {first_problem(error)}", remedy=_REMEDY) from error


def _check_whole(pack: Pack, place: str) -> None:
    ids = [rule.id for rule in pack.rules]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise RulesError(f"{place}: rule {twice[0]} stands twice.", remedy=_REMEDY)
    for rule in pack.rules:
        if rule.source not in pack.sources:
            raise RulesError(
                f"{place}: rule {rule.id}: there is no source {rule.source!r}.", remedy=_REMEDY
            )


def _valid(kind: type[T], value: Any, place: str) -> T:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise RulesError(f"{place}: {first_problem(error)}", remedy=_REMEDY) from error
