"""Released segments for tests: a simulated study and its segments.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kesit_privacy.features import CodeArray
from kesit_privacy.segment_file import SEGMENTS
from kesit_privacy.study import Study
from kesit_server.app import result_files
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, SimulationResult, simulate


def released(study: Study, codes: CodeArray, folder: Path) -> SimulationResult:
    """Simulate the study on these customers of four members; its segments.json is in `folder`."""
    parts = [part.astype(np.int64) for part in np.array_split(np.arange(len(codes)), 4)]
    plan = SimulationPlan(data="none", clients=4)
    result = simulate(study, plan, Customers(codes, tuple(parts)))
    files = result_files(result.federation, result.portrait, result.identity)
    (folder / SEGMENTS).write_bytes(files[SEGMENTS])
    return result
