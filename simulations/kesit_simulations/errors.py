"""The errors that this package raises on purpose."""

from __future__ import annotations

from kesit_privacy.errors import KesitError


class SimulationError(KesitError):
    """A simulation, partition or data set that cannot be made from what it was given."""


class DatasetError(SimulationError):
    """A known data set whose file is missing or unreadable."""
