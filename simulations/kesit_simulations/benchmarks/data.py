"""The made-up customers and studies that benchmarks of time run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kesit_privacy.features import GRID, CodeArray, FloatArray
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_simulations import partitions
from kesit_simulations.runner import Customers


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


def bench_customers(customers: int, clients: int, k: int) -> Customers:
    """Blobs in the plane, much as s1's, dealt out evenly."""
    rng = np.random.default_rng(3)
    centres = rng.uniform(0, GRID, (k, 2))
    blobs = centres[rng.integers(0, k, customers)] + rng.normal(0, GRID / 60, (customers, 2))
    codes = np.clip(np.rint(blobs), 0, GRID).astype(np.int16)
    return Customers(codes, tuple(partitions.iid(customers, clients, np.random.default_rng(0))))


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
    # NumPy types what `load` gives as Any.
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
