"""Settings that all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# No test is timed. In CI the examples of property tests are the same each time: what fails there
# fails here, and what was pushed is to blame. By hand, each run tries others.
settings.register_profile("kesit", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("kesit")
