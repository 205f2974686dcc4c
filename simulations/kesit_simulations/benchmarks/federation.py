"""Whole studies over the in-process grid, and what grid and courier add to each message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from kesit_client.node import Node
from kesit_server.courier import Courier
from kesit_simulations.benchmarks.data import bench_customers, bench_study
from kesit_simulations.benchmarks.report import Report, Table, Tell, time_table, times
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import simulate

CUSTOMERS, K = 20_000, 15


@dataclass(frozen=True)
class Size:
    """(clients, masks, repeats) of each federation."""

    federations: tuple[tuple[int, bool, int], ...] = (
        (200, False, 5),
        (200, True, 5),
        (1000, True, 1),
    )


def run(quick: bool, tell: Tell) -> Report:
    """Federations of 200 clients, and of 1,000 unless it is to be quick."""
    return measure(Size(((200, False, 2), (200, True, 2))) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Run each federation as often as it says."""
    study = bench_study(2, K, CUSTOMERS)
    tables: list[Table] = []
    values = []
    for clients, masks, repeats in size.federations:
        plan = SimulationPlan(data="bench", clients=clients, masks=masks)
        customers = bench_customers(CUSTOMERS, clients, K)
        spent, overheads, messages = [], [], 0
        for turn in range(repeats):
            name = f"{clients:,} clients, masks {'on' if masks else 'off'}"
            tell(f"federation: {name}, run {turn + 1} of {repeats}")
            with _timed(Courier, "ask") as courier, _timed(Node, "hello", "answer", "end") as node:
                result = simulate(study, plan, customers)
            messages = result.federation.courier.messages
            spent.append(result.seconds)
            overheads.append(1000 * (sum(courier) - sum(node)) / messages)
        tables.append(
            time_table(
                f"{name}, {messages:,} messages in all",
                [
                    times("whole study", spent, "s"),
                    times("grid and courier, a message", overheads, "ms"),
                ],
            )
        )
        values.append(
            {
                "clients": clients,
                "masks": masks,
                "messages": messages,
                "seconds": spent,
                "overhead_ms": overheads,
            }
        )
    return Report(tuple(tables), {"federations": values})


@contextmanager
def _timed(owner: type, *names: str) -> Iterator[list[float]]:
    """Seconds of each outermost call to these methods of a class."""
    spent: list[float] = []

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            begun = time.perf_counter()
            try:
                return method(*args)
            finally:
                spent.append(time.perf_counter() - begun)

        return call

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name))))
        yield spent
