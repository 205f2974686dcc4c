"""The sweep file: which studies and methods, over which values. `grid` makes the cells of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked

from kesit_privacy.errors import StudyError
from kesit_privacy.features import STRICT, Name
from kesit_privacy.study import LARGEST_EPSILON, Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.tables import parse, read_tables, validated
from kesit_simulations import studies
from kesit_simulations.baselines import BASELINES
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan, read_plan

KESIT: Final = "kesit"
"""The method that is no baseline: the study itself, simulated."""

Partition = Literal["iid", "dirichlet", "quantity", "column"]
SKEWED: Final = ("dirichlet", "quantity")

DEFAULT_SEEDS: Final = 10
MOST_SEEDS: Final = 100_000

_SUFFIX: Final = ".toml"
_HINT: Final = "Correct this field; `kesit simulate new -` prints a sweep that explains it."

T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]


@checked(frozen=True, config=STRICT)
class Axes:
    """The `[sweep]` table; a single value stands for a list of one.

    Attributes:
        methods: `kesit`, and names of baselines.
        epsilon, k, clients, partition, alpha, silence: values to combine, each with each; None (the
            field is left out) is the study's own value. alpha is for `dirichlet` and `quantity`
            only, clients for all but `column`, epsilon for private methods, silence for kesit.
        seeds: of division, noise and baselines; a number n in the file means 0 .. n-1.
        noise, masks: as in a study's `[simulation]` table, for kesit.
    """

    methods: Listed[Name] = (KESIT,)
    epsilon: Listed[Annotated[float, Field(gt=0, le=LARGEST_EPSILON)]] | None = None
    k: Listed[Annotated[int, Field(ge=2, le=250)]] | None = None
    clients: Listed[Annotated[int, Field(ge=2, le=100_000)]] | None = None
    partition: Listed[Partition] | None = None
    alpha: Listed[Annotated[float, Field(gt=0)]] | None = None
    silence: Listed[Annotated[float, Field(ge=0, lt=1)]] | None = None
    seeds: Listed[Seed] = tuple(range(DEFAULT_SEEDS))
    noise: Literal["seeded", "secure", "off"] | None = None
    masks: bool | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_seeds(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= MOST_SEEDS:
                raise ValueError(f"a number of seeds is 1 to {MOST_SEEDS:,}, not {value}")
            return tuple(range(value))
        return _as_tuple(value)

    @field_validator(
        "methods", "epsilon", "k", "clients", "partition", "alpha", "silence", mode="before"
    )
    @classmethod
    def _accept_one(cls, value: object) -> object:
        return _as_tuple(value)

    @field_validator("methods", "epsilon", "k", "clients", "partition", "alpha", "silence", "seeds")
    @classmethod
    def _no_value_twice(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if values is not None and len(set(values)) < len(values):
            raise ValueError("a value stands twice in the list; its cells would be the same")
        return values

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in methods if name != KESIT and name not in BASELINES]
        if unknown:
            listed = ", ".join((KESIT, *BASELINES))
            raise ValueError(f"there is no method {unknown[0]!r}; there are: {listed}")
        return methods


@checked(frozen=True, config=STRICT)
class SweepFile:
    """A sweep file: names of packaged studies or paths beside the file, and the axes."""

    study: Listed[Name]
    sweep: Axes

    @field_validator("study", mode="before")
    @classmethod
    def _accept_one(cls, value: object) -> object:
        return _as_tuple(value)

    @field_validator("study")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a study stands twice in the list")
        return names


@dataclass(frozen=True)
class Source:
    """One study of a sweep.

    Attributes:
        tables: its parsed TOML, from which cells make their variants.
        base: the folder to which its data file is relative.
    """

    tables: dict[str, Any]
    base: Path
    study: Study
    plan: SimulationPlan


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: its axes and its studies."""

    axes: Axes
    sources: tuple[Source, ...]


def names() -> tuple[str, ...]:
    """Names of the packaged sweeps, sorted."""
    found = (resources.files(__package__) / "examples").iterdir()
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in found if f.name.endswith(_SUFFIX)))


def text(name: str) -> str:
    """The TOML text of a packaged sweep.

    Raises:
        SimulationError: there is none of that name.
    """
    if name not in names():
        raise SimulationError(
            f"There is no example sweep called {name!r}.",
            remedy=f"Use one of: {', '.join(names())}.",
        )
    place = resources.files(__package__) / "examples" / (name + _SUFFIX)
    return place.read_text(encoding="utf-8")


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file; studies that it names by path are relative to it.

    Raises:
        StudyError: the file cannot be read, or a field is wrong; the error names it.
    """
    return sweep_from_tables(read_tables(path), path.parent)


def example_sweep(name: str) -> Sweep:
    """A packaged sweep; see `read_sweep`."""
    return sweep_from_tables(parse(text(name), name), Path())


def sweep_from_tables(tables: dict[str, Any], base: Path) -> Sweep:
    """A sweep from parsed TOML; see `read_sweep`."""
    try:
        file = validated(SweepFile, tables)
    except StudyError as error:
        cause = error.cause.removeprefix(f"{error.field}: ")
        raise StudyError(error.field, cause, remedy=_HINT) from error
    sources = tuple(_source(name, base, file.sweep) for name in file.study)
    _check_axes(file.sweep, sources)
    return Sweep(file.sweep, sources)


def _as_tuple(value: object) -> object:
    """A list as the tuple that strict validation wants, and a single value as a tuple of it."""
    if isinstance(value, list):
        return tuple(value)
    return value if value is None or isinstance(value, dict | tuple) else (value,)


def _source(name: str, base: Path, axes: Axes) -> Source:
    if name in studies.names():
        tables, folder = parse(studies.text(name), name), Path()
    else:
        path = base / name
        if not path.suffix and not path.exists():
            raise SimulationError(
                f"study: there is no packaged study {name!r}, and no file of that name.",
                remedy=f"Use one of {', '.join(studies.names())}, or the path of a study file.",
            )
        tables, folder = read_tables(path), path.parent
    plan = replace(read_plan(tables), backend="in-process")
    if axes.noise is not None:
        plan = replace(plan, noise=axes.noise)
    if axes.masks is not None:
        plan = replace(plan, masks=axes.masks)
    return Source(tables, folder, study_from_tables(tables), plan)


def _check_axes(axes: Axes, sources: tuple[Source, ...]) -> None:
    """Refuse values that no cell would use."""
    partitions = {p for s in sources for p in axes.partition or (s.plan.partition,)}
    if axes.alpha is not None and not partitions & set(SKEWED):
        raise SimulationError(
            "sweep.alpha: no partition of this sweep has a skew.",
            remedy=f"Add {' or '.join(SKEWED)} to sweep.partition, or leave alpha out.",
        )
    if axes.clients is not None and partitions == {"column"}:
        raise SimulationError(
            "sweep.clients: has no meaning with the partition 'column': the data decide.",
            remedy="Leave clients out, or add another partition.",
        )
    if axes.silence is not None and KESIT not in axes.methods:
        raise SimulationError(
            f"sweep.silence: is for the method {KESIT!r}, which is not in this sweep.",
            remedy=f"Leave silence out, or add {KESIT!r} to sweep.methods.",
        )
    if axes.epsilon is not None and not any(map(is_private, axes.methods)):
        raise SimulationError(
            "sweep.epsilon: no method of this sweep is private.",
            remedy="Leave epsilon out, or add a private method.",
        )


def is_private(method: str) -> bool:
    """Whether a method's result depends on ε."""
    return method == KESIT or BASELINES[method].private
