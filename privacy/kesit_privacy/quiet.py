"""Import this before Flower: it turns off Flower's telemetry and its call for updates.

A privacy tool makes no network call that its owner did not ask for. Both switches are read by
Flower from the environment, when it is imported or started; child processes inherit them.
"""

from __future__ import annotations

import os

SWITCHES = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

os.environ.update(SWITCHES)
