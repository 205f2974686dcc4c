"""The fixed catalogue of checks: pure functions of facts and parameters. See `catalogue`."""
