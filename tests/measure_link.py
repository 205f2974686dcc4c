"""Seconds a round over real processes and TLS: `python tests/measure_link.py NODES ROUNDS`.

A round is one message of 20 kB to every node and their answers of the same size. No test: it is
run by hand, from the repository's folder, on a machine that is otherwise idle.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.serverapp import Grid  # isort: skip

from deploykit import Child, Federation, ask, eventually, federation
from kesit_server.deployment.runs import on_superlink

PAYLOAD = b"x" * 20_000


def rounds(grid: Grid, count: int) -> list[float]:
    """Seconds of each of `count` rounds, with a pause after each."""
    names = list(grid.get_node_ids())
    taken = []
    for number in range(count):
        start = time.monotonic()
        ask(grid, number.to_bytes(4) + PAYLOAD, names)
        taken.append(time.monotonic() - start)
        time.sleep(0.3)
    return taken


def processor_seconds(child: Child) -> float:
    """Processor time that a child has used (Linux)."""
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().split()
    return (int(fields[13]) + int(fields[14])) / 100


def measure(place: Federation, nodes: int, count: int) -> str:
    server = place.superlink()
    for number in range(nodes):
        place.admit(f"node-{number}")
        place.node(f"node-{number}")
    eventually(lambda: len(place.online()) == nodes, 60)
    used = processor_seconds(server)
    first, *rest = on_superlink(place.home, lambda grid: rounds(grid, count + 1))
    used = (processor_seconds(server) - used) / (count + 1)
    time.sleep(6)
    idle = processor_seconds(server)
    time.sleep(10)
    idle = (processor_seconds(server) - idle) / 10
    return (
        f"{nodes} nodes: first round {first:.2f} s, then median {statistics.median(rest):.2f} s "
        f"({min(rest):.2f}-{max(rest):.2f}); SuperLink {used:.2f} s of processor a round, "
        f"{idle:.1%} of one when idle"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, federation(Path(folder)) as place:
        print(measure(place, int(sys.argv[1]), int(sys.argv[2])))
