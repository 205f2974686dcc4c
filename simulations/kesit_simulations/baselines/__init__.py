"""What a federated private segmentation is compared with, behind one interface.

`BASELINES[name].fit(problem)` gives centres, `inertia(problem.rows, centres)` scores them. They
differ in whom they trust: print `trust` beside every table. docs/explanation/baselines.md compares
them.
"""

from __future__ import annotations

from kesit_simulations.baselines.dp_lloyd import dplloyd
from kesit_simulations.baselines.eug_kmeans import eugkm
from kesit_simulations.baselines.fast_lloyd import alone_private, fastlloyd, fastlloyd_members
from kesit_simulations.baselines.ibm import diffprivlib_kmeans
from kesit_simulations.baselines.problem import Baseline, Problem, inertia, problem_of
from kesit_simulations.baselines.reference import alone, central, federated_exact

__all__ = ["BASELINES", "Baseline", "Problem", "inertia", "problem_of"]

_CURATOR = "One curator holds every row and is trusted with it; the result is private."

_ALL = (
    Baseline(
        "central",
        "scikit-learn KMeans, all rows in one place",
        False,
        "One curator holds every row, and the result has no privacy.",
        central,
    ),
    Baseline(
        "federated-exact",
        "Federated Lloyd, exact sums",
        False,
        "No row moves but those that starts are made of; whoever coordinates sees exact sums.",
        federated_exact,
    ),
    Baseline(
        "alone",
        "Each client alone",
        False,
        "Nobody is trusted, and nothing is shared: each client sees its own rows only.",
        alone,
    ),
    Baseline(
        "alone-private",
        "Each client alone, released under the same ε",
        True,
        "Nobody is trusted: each client releases its own segments, privately.",
        alone_private,
    ),
    Baseline(
        "diffprivlib",
        "diffprivlib KMeans (central)",
        True,
        f"{_CURATOR} Spends more than its nominal ε above 4 dimensions.",
        diffprivlib_kmeans,
    ),
    Baseline("dplloyd", "DPLloyd, Su et al. 2016 (central)", True, _CURATOR, dplloyd),
    Baseline("eugkm", "EUGkM grid, Su et al. 2016 (central)", True, _CURATOR, eugkm),
    Baseline(
        "fastlloyd",
        "FastLloyd, Diaa et al. 2025",
        True,
        "Federated: a server adds the noise once and must not collude with any client.",
        fastlloyd,
    ),
    Baseline(
        "fastlloyd-members",
        "FastLloyd with noise made by the members",
        True,
        "Federated as Kesit is: the server and up to c members may collude.",
        fastlloyd_members,
    ),
)

BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in _ALL}
"""Every baseline by name, in the order of tables and legends."""
