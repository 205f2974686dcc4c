"""Example studies that come with Kesit, each with a `[simulation]` table, as TOML text."""

from __future__ import annotations

from importlib import resources
from typing import Final

from kesit_simulations.errors import SimulationError

_SUFFIX: Final = ".toml"

DEMO: Final = "retail-bank"
"""The study of `kesit demo`."""


def names() -> tuple[str, ...]:
    """Names of the example studies, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in files if f.name.endswith(_SUFFIX)))


def text(name: str) -> str:
    """The TOML text of an example study.

    Raises:
        SimulationError: there is none of that name.
    """
    if name not in names():
        raise SimulationError(
            f"There is no example study called {name!r}.",
            remedy=f"Use one of: {', '.join(names())}.",
        )
    return resources.files(__name__).joinpath(name + _SUFFIX).read_text(encoding="utf-8")
