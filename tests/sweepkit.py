"""A small study and sweeps of it, for tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np

from kesit_simulations.sweeps.spec import Sweep, sweep_from_tables

STUDY = """
name = "Two blobs"
purpose = "test"
legal_basis = "made-public"
epsilon = 1.0
delta = 1e-4
declared_customers = 600
features = [
    { name = "x", kind = "numeric", lower = 0, upper = 1 },
    { name = "y", kind = "numeric", lower = 0, upper = 1 },
]

[segmentation]
k = 2

[simulation]
data = "blobs.csv"
id_column = "id"
clients = 4
column = "shop"
"""

SWEEP = """
study = "blobs.toml"

[sweep]
methods = ["kesit", "dplloyd"]
epsilon = [0.5, 2.0]
seeds = 2
"""


def write_blobs(folder: Path, seed: int = 0) -> None:
    """A study file and its 600 customers in two blobs and three shops."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, 600)
    points = np.clip(0.3 + 0.4 * kinds[:, None] + rng.normal(0, 0.05, (600, 2)), 0, 1)
    lines = [f"c{row},{x:.4f},{y:.4f},shop-{row % 3}" for row, (x, y) in enumerate(points.tolist())]
    (folder / "blobs.toml").write_text(STUDY)
    (folder / "blobs.csv").write_text("\n".join(["id,x,y,shop", *lines]) + "\n")


def sweep_of(folder: Path, text: str = SWEEP) -> Sweep:
    """A sweep whose study lies in the folder."""
    return sweep_from_tables(tomllib.loads(text), folder)
