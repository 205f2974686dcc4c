"""One k-means step of a client beside one of scikit-learn on the same rows."""

from __future__ import annotations

import tempfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_simulations.benchmarks.data import bench_study, write_blobs
from kesit_simulations.benchmarks.report import Report, Tell, seconds, time_table, times

DIMENSIONS, K = 20, 10
MIB = 1 << 20


@dataclass(frozen=True)
class Size:
    """Rows of the comparison, rows of the large run, and how often both sides alternate."""

    rows: int = 1_000_000
    many_rows: int = 10_000_000
    repeats: int = 5


def run(quick: bool, tell: Tell) -> Report:
    """At full size it needs 440 MB of disk for a minute."""
    return measure(Size(200_000, 1_000_000, 3) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Alternate the two, then run one sum over many rows."""
    with tempfile.TemporaryDirectory(prefix="kesit-") as folder:
        return _measure(Path(folder), size, tell)


def _measure(folder: Path, size: Size, tell: Tell) -> Report:
    tell(f"step: {size.rows:,} rows, {size.repeats} times")
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2 * GRID, 0.8 * GRID, (K, DIMENSIONS))
    start = np.clip(np.rint(truth + rng.normal(0, GRID / 40, truth.shape)), 0, GRID)
    codes = write_blobs(folder / "rows.npy", size.rows, truth, 1)
    query = _query(start, size.rows)
    own, other = _side_by_side(query, codes, start, size.repeats)
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    memory = _peak(query, codes)
    tell(f"step: {size.many_rows:,} rows")
    many = write_blobs(folder / "many.npy", size.many_rows, truth, 2)
    large, large_memory = [seconds(lambda: query.sum(many))], _peak(query, many)
    table = time_table(
        f"One k-means step of a client, exact row function (k = {K}, {DIMENSIONS} features)",
        [
            times(f"Kesit, {size.rows:,} rows", own, "s"),
            times("scikit-learn KMeans(max_iter=1).fit", other, "s"),
            times("ratio (at most 2)", ratios, "x"),
            times("memory beyond the map (at most 300 MiB)", [memory], "MiB"),
            times(f"Kesit, {size.many_rows:,} rows", large, "s"),
            times("memory beyond the map", [large_memory], "MiB"),
        ],
    )
    values = {
        "rows": size.rows,
        "kesit_seconds": own,
        "sklearn_seconds": other,
        "ratios": ratios,
        "memory_mib": memory,
        "many_rows": size.many_rows,
        "many_seconds": large,
        "many_memory_mib": large_memory,
    }
    return Report((table,), values)


def _query(start: FloatArray, rows: int) -> ClusterSums:
    return ClusterSums(
        Embedding.of(bench_study(DIMENSIONS, K, rows)),
        tuple(tuple(int(x) for x in centre) for centre in start),
        (round(GRID / 12 * DIMENSIONS**0.5),) * K,
        (0,) * DIMENSIONS,
        10,
        SCALE_BITS,
    )


def _side_by_side(
    query: ClusterSums, codes: CodeArray, start: FloatArray, repeats: int
) -> tuple[list[float], list[float]]:
    """Seconds of both sides, alternating."""
    from sklearn.cluster import KMeans

    table = codes.astype(np.float64)
    model = KMeans(K, init=start, n_init=1, max_iter=1)
    own, other = [], []
    for _ in range(repeats):
        own.append(seconds(lambda: query.sum(codes)))
        other.append(seconds(lambda: model.fit(table)))
    return own, other


def _peak(query: ClusterSums, codes: CodeArray) -> float:
    """MiB that NumPy and Python allocate at most during one sum."""
    tracemalloc.start()
    query.sum(codes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MIB
