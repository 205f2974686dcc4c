"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from clikit import kesit, shop

__all__ = ["kesit", "shop"]
