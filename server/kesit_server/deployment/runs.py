"""A run on a running SuperLink: this very process is its server app, nothing is executed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.serverapp import Grid  # isort: skip

from kesit_privacy.bundle import POINTER, POINTER_HASH
from kesit_privacy.files import sole_user
from kesit_server.deployment import flower_internals as flower
from kesit_server.deployment.door import Door
from kesit_server.errors import DeploymentError

LOCK = "starting.lock"
HEARTBEAT_SECONDS = 5.0
STARTING_SECONDS = 30.0

POLL_SECONDS = 0.02
"""For a courier's `Patience` on this grid: it waits by itself, so its user need hardly wait."""

ResultT = TypeVar("ResultT")


def on_superlink(
    folder: Path,
    work: Callable[[Grid], ResultT],
    *,
    bundle: bytes = POINTER,
    bundle_hash: str = POINTER_HASH,
) -> ResultT:
    """Start a Flower run on the SuperLink of `folder`, do `work` over its grid, end the run.

    The run ends as completed if `work` returns and as failed if it raises; nodes see either. The
    grid carries messages for this run alone and must not be used afterwards.

    Raises:
        DeploymentError: no server runs from the folder, or it went away.
        whatever `work` raises.
    """
    door = Door.read(folder)
    task = _claim(folder, door, bundle, bundle_hash)
    completed = False
    try:
        with _kept_alive(task):
            result = work(task.begin())
        completed = True
        return result
    finally:
        _end(task, completed=completed)


def _claim(folder: Path, door: Door, bundle: bytes, bundle_hash: str) -> flower.ClaimedTask:
    """Create a run and take its task. One starter at a time: tasks are claimed oldest first."""
    with _alone(folder / LOCK):
        try:
            with flower.control_client(door) as control:
                run_id = flower.start_run(control, bundle, bundle_hash)
            while (task := flower.ClaimedTask.oldest(door)) is not None:
                if task.run_id == run_id:
                    return task
                task.end(completed=False)  # left behind by a coordinator that died
        except httpx.HTTPStatusError as error:
            raise DeploymentError(
                f"The server process starts no run: {flower.told(error)}",
                remedy="See its log.",
            ) from error
        except httpx.TransportError as error:
            raise DeploymentError(
                "The server process does not answer.",
                remedy="Start it with `kesit server start`.",
            ) from error
    raise DeploymentError(
        "Another process took the run's task.", remedy="Stop other Flower tools on this server."
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        until = time.monotonic() + STARTING_SECONDS
        while True:
            try:
                stack.enter_context(sole_user(path))
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise DeploymentError(
                        f"{path}: another run has been starting for {STARTING_SECONDS:.0f} s.",
                        remedy="Stop that process, then try again.",
                    ) from error
                time.sleep(0.1)
        yield


@contextmanager
def _kept_alive(task: flower.ClaimedTask) -> Iterator[None]:
    done = threading.Event()

    def beat() -> None:
        pause = 0.0
        while not done.wait(pause):
            pause = HEARTBEAT_SECONDS if task.alive() else 1.0

    thread = threading.Thread(target=beat, name="kesit-run-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _end(task: flower.ClaimedTask, *, completed: bool) -> None:
    try:
        task.end(completed=completed)
    except (httpx.TransportError, httpx.HTTPStatusError) as error:
        if completed:  # of a failed run the first error tells more
            raise DeploymentError(
                "The work is done, but the server process was not told that the run ended.",
                remedy="It will mark the run as failed; the result stands.",
            ) from error
