"""`make bench`: what Kesit costs, measured beside something familiar in the same run.

Machines are shared and noisy: each comparison alternates the two sides and reports medians, the
spread and the ratio. Nothing here is a test.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sklearn.cluster import KMeans

from kesit_client.node import Node
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_server.courier import Courier
from kesit_simulations import partitions
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, simulate

ROWS, MANY_ROWS, DIMENSIONS, K = 1_000_000, 10_000_000, 20, 10
REPEATS = 5
FEDERATIONS = ((200, False), (200, True), (1000, True))
MIB = 1 << 20


def main() -> None:
    """Run all benchmarks and print their tables."""
    print("One k-means step of a client, exact row function (k = 10, 20 features)")
    with tempfile.TemporaryDirectory() as folder:
        _client_step(Path(folder))
    print("\nWhole studies over the in-process grid (s1-like data, grid start, seeded noise)")
    _federations()


def bench_study(features: int, k: int, customers: int) -> Study:
    """A study with numeric features in [0, 1]."""
    return study_from_tables(
        {
            "name": "bench",
            "purpose": "benchmark",
            "legal_basis": "explicit-consent",
            "epsilon": 1.0,
            "delta": 1e-9,
            "declared_customers": customers,
            "segmentation": {"k": k},
            "features": [
                {"kind": "numeric", "name": f"x{index}", "lower": 0.0, "upper": 1.0}
                for index in range(features)
            ],
        }
    )


def write_blobs(path: Path, rows: int, centres: FloatArray, seed: int) -> CodeArray:
    """A memory map of `rows` codes around `centres`, shape (rows, dimensions)."""
    rng = np.random.default_rng(seed)
    shape = (rows, centres.shape[1])
    codes = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=shape)
    for start in range(0, rows, 250_000):
        size = min(250_000, rows - start)
        noise = rng.normal(0, GRID / 12, (size, shape[1]))
        blobs = centres[rng.integers(0, len(centres), size)] + noise
        codes[start : start + size] = np.clip(np.rint(blobs), 0, GRID)
    codes.flush()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _client_step(folder: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2 * GRID, 0.8 * GRID, (K, DIMENSIONS))
    start = np.clip(np.rint(truth + rng.normal(0, GRID / 40, truth.shape)), 0, GRID)
    codes = write_blobs(folder / "rows.npy", ROWS, truth, 1)
    query = ClusterSums(
        Embedding.of(bench_study(DIMENSIONS, K, ROWS)),
        tuple(tuple(int(x) for x in centre) for centre in start),
        (round(GRID / 12 * DIMENSIONS**0.5),) * K,
        (0,) * DIMENSIONS,
        10,
        SCALE_BITS,
    )
    own, other = _side_by_side(query, codes, start)
    _row(f"Kesit, {ROWS:,} rows", own, "s")
    _row("scikit-learn KMeans(max_iter=1).fit", other, "s")
    _row("ratio (at most 2)", [a / b for a, b in zip(own, other, strict=True)], "x")
    print(f"  {'memory beyond the map (at most 300 MiB)':<44} {_peak(query, codes):8.1f} MiB")
    many = write_blobs(folder / "many.npy", MANY_ROWS, truth, 2)
    _row(f"Kesit, {MANY_ROWS:,} rows", [_seconds(lambda: query.sum(many))], "s")
    print(f"  {'memory beyond the map':<44} {_peak(query, many):8.1f} MiB")


def _side_by_side(
    query: ClusterSums, codes: CodeArray, start: FloatArray
) -> tuple[list[float], list[float]]:
    """Seconds of both sides, alternating."""
    table = codes.astype(np.float64)
    model = KMeans(K, init=start, n_init=1, max_iter=1)
    own, other = [], []
    for _ in range(REPEATS):
        own.append(_seconds(lambda: query.sum(codes)))
        other.append(_seconds(lambda: model.fit(table)))
    return own, other


def _federations() -> None:
    study = bench_study(2, 15, 20_000)
    rng = np.random.default_rng(3)
    centres = rng.uniform(0, GRID, (15, 2))
    blobs = centres[rng.integers(0, 15, 20_000)] + rng.normal(0, GRID / 60, (20_000, 2))
    codes = np.clip(np.rint(blobs), 0, GRID).astype(np.int16)
    for clients, masks in FEDERATIONS:
        plan = SimulationPlan(data="bench", clients=clients, masks=masks)
        parts = tuple(partitions.iid(len(codes), clients, np.random.default_rng(0)))
        seconds, overheads, messages = [], [], 0
        for _ in range(1 if clients == 1000 else REPEATS):
            with _timed(Courier, "ask") as courier, _timed(Node, "hello", "answer", "end") as node:
                result = simulate(study, plan, Customers(codes, parts))
            messages = result.federation.courier.messages
            seconds.append(result.seconds)
            overheads.append(1000 * (sum(courier) - sum(node)) / messages)
        print(f"  {clients:,} clients, masks {'on' if masks else 'off'}, {messages:,} messages")
        _row("whole study", seconds, "s")
        _row("grid and courier, a message", overheads, "ms")


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


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _peak(query: ClusterSums, codes: CodeArray) -> float:
    """MiB that NumPy and Python allocate at most during one sum."""
    tracemalloc.start()
    query.sum(codes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MIB


def _row(name: str, values: list[float], unit: str) -> None:
    spread = f"{min(values):.3f} .. {max(values):.3f}" if len(values) > 1 else "one run"
    print(f"  {name:<44} {statistics.median(values):8.3f} {unit:<3} ({spread})", flush=True)


if __name__ == "__main__":
    main()
