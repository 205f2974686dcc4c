"""A node in a child process that is started again when it crashes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from kesit_client.deployment.node_loop import Event, OnMessage
from kesit_client.deployment.stopping import Stop
from kesit_privacy.errors import KesitError

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SOUND_SECONDS = 60.0
"""A child that lived this long was sound: the pauses start anew."""

STOP_SECONDS = 30.0
"""A child that is asked to stop may finish its answer for this long."""

Report = tuple[type[KesitError], str, str]


def supervise(
    target: Callable[[], None],
    *,
    on_message: OnMessage = lambda event: None,
    stop: Stop | None = None,
) -> None:
    """Run `target` in a child process until it returns, or until `stop` is requested (by default:
    until SIGTERM or SIGINT). A child that dies otherwise is started again, after pauses that
    double from one second to sixty.

    Args:
        target: runs a node and ends on SIGTERM. It must be picklable, for it starts in a fresh
            interpreter: a function of a module, or `functools.partial` of one.

    Raises:
        KesitError: the child raised it: an error of the same class, cause and remedy.
    """
    stop = stop if stop is not None else Stop.on_signals()
    pause = FIRST_PAUSE
    while not stop.requested:
        started = time.monotonic()
        code, report = _child(target, stop)
        if report is not None:
            raise _rebuilt(report)
        if code == 0 or stop.requested:
            return
        if time.monotonic() - started >= SOUND_SECONDS:
            pause = FIRST_PAUSE
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        on_message(Event("restarting", f"The node ended {how}; again in {pause:.0f} s."))
        stop.pause(pause)
        pause = min(LONGEST_PAUSE, 2.0 * pause)


def _child(target: Callable[[], None], stop: Stop) -> tuple[int, Report | None]:
    """Run a child to its end: its exit code, and the error that it reported."""
    fresh = multiprocessing.get_context("spawn")
    ours, theirs = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_in_child, args=(target, theirs), name="kesit-node")
    process.start()
    theirs.close()
    try:
        while process.is_alive() and not stop.requested:
            process.join(0.2)
        if process.is_alive():
            process.terminate()
            process.join(STOP_SECONDS)
        try:
            report: Report | None = ours.recv() if ours.poll() else None
        except EOFError:
            report = None
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()
    return process.exitcode or 0, report


def _in_child(target: Callable[[], None], report: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        target()
    except KesitError as error:
        report.send((type(error), error.cause, error.remedy))
        raise SystemExit(1) from None


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """A node without its supervisor would run on unseen."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _rebuilt(report: Report) -> KesitError:
    """The child's error. Its class's own constructor may ask for more, so it is passed by."""
    kind, cause, remedy = report
    error = kind.__new__(kind)
    KesitError.__init__(error, cause, remedy=remedy)
    return error
