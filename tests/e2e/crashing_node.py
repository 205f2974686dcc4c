"""A node that kills itself: the other process of `test_crash.py`, and no test.

It reads commands, one a line: `crash FOLDER N` runs hello and one sum against the books in FOLDER
in a child process, which sends itself SIGKILL at its N-th event; `race FOLDER` answers one
instruction in two child processes at once. After each it prints how the children ended.

An event is the beginning of an SQL statement, of a write to the disk (`fsync`) or of a file's
move to its place. What happened is appended to FOLDER/events, so the last line is where it died.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from kesit_client.ledger import store as store_module
from kesit_client.ledger.store import Store
from kesit_privacy import canonical
from kesit_privacy import hello as hello_form
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import IntArray
from kesit_privacy.hello import Hello, HelloRequest
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import Marginals
from kesit_privacy.wire import RefusalCode, read_reply
from kit import instruct, keep_books, mixed_study, random_codes, small_nodes

STUDY = mixed_study()
CODES = random_codes(STUDY, 40)
STEP = "marginals"
QUERY = Marginals(Embedding.of(STUDY), 32, SCALE_BITS)


def die_at(number: int, folder: Path) -> None:
    """Arm this process: it is killed at its event of that number."""
    events = itertools.count(1)
    log = os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def happens(what: str) -> None:
        os.write(log, (" ".join(what.split()) + "\n").encode())
        if next(events) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    connect, fsync, move = store_module._connect, os.fsync, Path.replace

    def traced(target: str) -> object:
        connection = connect(target)
        if target != ":memory:":
            connection.set_trace_callback(happens)
        return connection

    def synced(descriptor: int) -> None:
        happens("fsync")
        fsync(descriptor)

    def moved(path: Path, target: Path) -> Path:
        happens("move")
        result = move(path, target)
        happens("moved")
        return result

    store_module._connect = traced  # type: ignore[assignment]
    os.fsync = synced  # type: ignore[assignment]
    Path.replace = moved  # type: ignore[assignment,method-assign]


def crash(folder: Path, number: int) -> None:
    """Hello and one sum; FOLDER/peers holds the request and the other members' hellos."""
    request, *peers = canonical.decode((folder / "peers").read_bytes())
    node = small_nodes(STUDY, CODES)[0]
    die_at(number, folder)
    keep_books(node, folder / "books.sqlite")
    asked = HelloRequest.from_value(request)
    code, payload = read_reply(node.hello(asked.encoded))
    assert code is RefusalCode.OK, code
    (folder / "hello").write_bytes(payload)
    hellos = [Hello.from_value(value) for value in [canonical.decode(payload), *peers]]
    transcript = hello_form.gather(asked, hellos)
    order = instruct(STUDY, transcript, STEP, QUERY)
    code, payload = read_reply(node.answer(order.encode(), transcript.encoded))
    assert code is RefusalCode.OK, code
    (folder / "answer").write_bytes(payload)


class SlowConstant:
    """Adds a number of its own to every coordinate, slowly: whose answer was sent shows in it."""

    mode = "off"

    def __init__(self, number: int) -> None:
        self.number = number

    def sample(self, variance: Fraction, size: int) -> IntArray:
        time.sleep(0.05)
        return np.full(size, self.number, dtype=np.int64)


def race(folder: Path, number: int, wait: Callable[[], None]) -> None:
    """Answer FOLDER/order as soon as `wait` returns."""
    node = small_nodes(STUDY, CODES)[0]
    node.store = Store.open(folder / "books.sqlite")
    node.noise = SlowConstant(number)  # type: ignore[assignment]
    order, transcript = (folder / "order").read_bytes(), (folder / "transcript").read_bytes()
    wait()
    (folder / f"reply-{number}").write_bytes(node.answer(order, transcript))


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a child process; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def ended(child: int) -> str:
    """Wait for a child: `done`, `killed` or `failed`."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed"
    return "done" if status == 0 else "failed"


def main() -> None:
    """Obey commands until the input ends."""
    for line in sys.stdin:
        command, place, *rest = line.split()
        folder = Path(place)
        if command == "crash":
            outcome = ended(in_child(lambda: crash(folder, int(rest[0]))))  # noqa: B023
        else:
            reading, writing = os.pipe()

            def wait() -> None:
                os.close(writing)  # noqa: B023
                os.read(reading, 1)  # noqa: B023

            racers = [in_child(lambda n=n: race(folder, n, wait)) for n in (1, 2)]  # type: ignore[misc]  # noqa: B023
            time.sleep(0.3)
            os.close(writing)
            outcome = " ".join(ended(racer) for racer in racers)
            os.close(reading)
        print(outcome, flush=True)


if __name__ == "__main__":
    main()
