"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("kesit", deadline=None)  # no test is timed
settings.load_profile("kesit")
