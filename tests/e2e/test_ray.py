"""`--backend ray`: Flower's own engine computes what the in-process grid computes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from clikit import Kesit, files
from kesit_cli import exits
from kesit_privacy.study import Study
from kesit_server.errors import FederationError
from kesit_simulations import partitions, ray_backend
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.ray_backend import require_ray
from kesit_simulations.runner import Customers, SimulationResult, Watcher, simulate
from kit import mixed_study, random_codes, small_study

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray waits for no process

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'kesit[simulation]'",
)
PLAN = SimulationPlan(data="none", clients=6, seed=5)


def customers(study: Study, clients: int) -> Customers:
    """2,000 random customers, dealt out evenly."""
    codes = random_codes(study, 2000)
    rng = np.random.default_rng(1)
    return Customers(codes, tuple(partitions.iid(len(codes), clients, rng)))


def actors() -> list[int]:
    """Process ids of Ray's actors below this process."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(after_name[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::ClientAppActor"):
                found.append(int(folder.name))

    def below(process: int) -> bool:
        return process == os.getpid() or (process in parents and below(parents[process]))

    return [process for process in found if below(process)]


def on_ray(study: Study, plan: SimulationPlan, watcher: Watcher | None = None) -> SimulationResult:
    """A study on Flower's engine, which must leave the process and the disk as they were."""
    environment = dict(os.environ)
    threads, handler = set(threading.enumerate()), signal.getsignal(signal.SIGTERM)
    folders: list[Path] = []

    @contextmanager
    def watched() -> Iterator[str]:
        with short_folder() as name:
            folders.append(Path(name))
            yield name

    short_folder = ray_backend._short_folder
    try:
        held = customers(study, plan.clients)
        with mock.patch.object(ray_backend, "_short_folder", watched):
            return simulate(study, replace(plan, backend="ray"), held, watcher)
    finally:
        import ray

        assert not ray.is_initialized()
        assert folders
        assert not any(folder.exists() for folder in folders)
        assert environment.items() <= os.environ.items()
        assert signal.getsignal(signal.SIGTERM) is handler
        assert not [t for t in threading.enumerate() if t not in threads and not t.daemon]


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize(
    ("study", "plan"),
    [
        (small_study(), PLAN),
        # With this seed some clients miss a message, so that attempts are repeated.
        (mixed_study(), replace(PLAN, clients=12, masks=False, silence=0.03)),
    ],
)
def test_the_result_is_that_of_the_in_process_grid_to_the_bit(
    study: Study, plan: SimulationPlan
) -> None:
    here = simulate(study, plan, customers(study, plan.clients))
    there = on_ray(study, plan)
    assert np.array_equal(here.segments.centres, there.segments.centres)
    assert np.array_equal(here.segments.sizes, there.segments.sizes)
    assert [(s.step, s.attempt, s.roster) for s in here.federation.sums] == [
        (s.step, s.attempt, s.roster) for s in there.federation.sums
    ]
    for one, other in zip(here.federation.sums, there.federation.sums, strict=True):
        assert np.array_equal(one.values, other.values)
    assert here.federation.courier.messages == there.federation.courier.messages
    assert here.federation.spent_units == there.federation.spent_units
    if plan.silence:
        assert len(here.federation.orders) > len(here.federation.sums)


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.usefixtures("tidy")
def test_clients_that_are_killed_are_silent_and_end_the_run() -> None:
    """A process that dies answers for itself at once: nothing waits for it."""
    told: list[str] = []
    killed: list[int] = []

    def kill(text: str) -> None:
        told.append(text)
        if text.startswith("lloyd-1") and text.endswith("are asked"):
            for process in actors():
                killed.append(process)
                os.kill(process, signal.SIGKILL)

    with pytest.raises(FederationError, match="0 members are left"):
        on_ray(small_study(), PLAN, Watcher(kill))
    assert killed
    assert any("actor died" in text for text in told)


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("tidy")
def test_the_command_says_the_same_as_in_process(kesit: Kesit, shop: Path) -> None:
    run = ("simulate", "run", "study.toml", "--json")
    here = kesit(*run, "--out", "here")
    there = kesit(*run, "--out", "there", "--backend", "ray")
    assert (here.code, there.code) == (exits.OK, exits.OK), there.err
    one, other = json.loads(here.out), json.loads(there.out)
    assert other["simulation"].pop("backend") == "ray"
    assert one["simulation"].pop("backend") == "in-process"
    for name in ("segments", "evaluation", "simulation", "epsilon_spent"):
        assert one[name] == other[name], name
    assert "Ray is starting" in there.err
    assert "DEPRECATED" not in there.err

    before = files(shop)
    silent = ("simulate", "run", "study.toml", "--silence", "0.9")
    failed, same = kesit(*silent), kesit(*silent, "--backend", "ray")
    assert same.code == failed.code == exits.FEDERATION
    assert "the study needs 3" in same.said
    assert files(shop) == before


def test_without_ray_one_error_says_what_to_install(
    kesit: Kesit, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else real(name)
    )
    failed = kesit("simulate", "run", "study.toml", "--backend", "ray")
    assert failed.code == exits.SETTINGS
    assert "pip install 'kesit[simulation]'" in failed.said
    assert failed.err.count("Error:") == 1
    with pytest.raises(SimulationError, match="not installed"):
        require_ray()
