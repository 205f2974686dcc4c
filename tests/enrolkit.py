"""A small federation of folders for tests: a coordinator, and members that enrolled with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kesit_client.home import REQUEST
from kesit_client.owner import onboarding
from kesit_privacy import canonical
from kesit_privacy.enrolment import read_request
from kesit_privacy.errors import KesitError
from kesit_privacy.identity import Identity, fingerprint
from kesit_server.deployment import home as homes
from kesit_server.deployment import members

NOW = 1_800_000_000


class Federation:
    """A coordinator and three members with Turkish letters in their names, all in folders."""

    def __init__(self, place: Path, names: tuple[str, ...] = ("Ankara", "İzmir", "Şişli")) -> None:
        self.server = place / "coordinator"
        self.made = homes.create(self.server, ["kesit.example.org"], now=NOW)
        self.homes = {name: place / name for name in names}
        for name, home in self.homes.items():
            onboarding.create_client(home, name, now=NOW)
            request = read_request(home / REQUEST)
            members.admit(self.server, request, fingerprint(request.identity), now=NOW)

    @property
    def fingerprint(self) -> str:
        """The coordinator's."""
        return fingerprint(self.made.members.coordinator)

    @property
    def list_file(self) -> Path:
        """The coordinator's newest list."""
        return self.server / homes.MEMBERS

    def fingerprint_of(self, name: str) -> str:
        """A member's, as it would tell it."""
        return fingerprint(read_request(self.homes[name] / REQUEST).identity)

    def join_all(self) -> None:
        """Every member takes over the newest list."""
        for home in self.homes.values():
            onboarding.join(home, self.list_file, self.fingerprint)


def identity(number: int) -> Identity:
    """A repeatable key."""
    return Identity.from_seed(number.to_bytes(32, "big"))


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    """Canonical bytes with a change to their value."""
    value = canonical.decode(data)
    change(value)
    return canonical.encode(value)


def leaves(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a value that is no table and no list."""
    if isinstance(value, dict):
        return [path for key in value for path in leaves(value[key], (*way, key))]
    if isinstance(value, list):
        return [path for place, item in enumerate(value) for path in leaves(item, (*way, place))]
    return [way]


def put(value: Any, way: tuple[Any, ...], new: Any) -> None:
    """Set the place of a path."""
    for part in way[:-1]:
        value = value[part]
    value[way[-1]] = new


def pick(value: Any, way: tuple[Any, ...]) -> Any:
    """What stands at a path."""
    for part in way:
        value = value[part]
    return value


def helps(error: pytest.ExceptionInfo[KesitError]) -> None:
    """The error has a cause and a remedy, on one line each."""
    assert error.value.cause.strip()
    assert error.value.remedy.strip()
    assert "\n" not in error.value.cause
