"""Tasks over processes: fresh ones (spawned), that end with their parent however that ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection

from kesit_simulations.errors import SimulationError
from kesit_simulations.sweeps.spec import Sweep
from kesit_simulations.sweeps.work import Record, Task, Worker

AHEAD = 4
"""Tasks that wait for each process: enough to keep it busy, few enough to stop at once."""

_worker: Worker | None = None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def results(
    sweep: Sweep, tasks: Iterable[Task], processes: int
) -> Iterator[Iterator[tuple[Task, Record]]]:
    """Tasks and their records, in the order in which they are done.

    When the block ends, whatever the reason, no process is left and unfinished tasks are forgotten.

    Raises:
        SimulationError: a process died (while iterating).
    """
    context = get_context("spawn")  # threads and OpenMP do not survive a fork
    resource_tracker.ensure_running()  # its first start would unblock the signals blocked below
    stopped, stop = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _start, (stopped, sweep))
    try:
        yield _results(pool, iter(tasks), AHEAD * processes)
    finally:
        stop.close()  # the processes see the end of the pipe and leave, in the middle of a task
        pool.shutdown(cancel_futures=True)
        stopped.close()


def _results(
    pool: ProcessPoolExecutor, tasks: Iterator[Task], ahead: int
) -> Iterator[tuple[Task, Record]]:
    waiting: dict[Future[Record], Task] = {}
    try:
        while True:
            for task in tasks:
                with _interrupts_blocked():
                    waiting[pool.submit(_run, task)] = task
                if len(waiting) >= ahead:
                    break
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise SimulationError(
            "A process of the sweep died; the system may have run out of memory.",
            remedy="Run the same command again, with fewer --processes; it goes on where it was.",
        ) from error


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C: it is their parent's to handle."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(stopped: Connection, sweep: Sweep) -> None:
    """Begin a process: watch the parent, and make the worker."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_when, args=(stopped,), daemon=True).start()
    _worker = Worker(sweep)


def _leave_when(stopped: Connection) -> None:
    """End this process when the other end of the pipe is closed: by the parent, or by its death."""
    try:
        stopped.recv()
    except (EOFError, OSError):
        os._exit(1)


def _run(task: Task) -> Record:
    assert _worker is not None
    return _worker.run(task)
