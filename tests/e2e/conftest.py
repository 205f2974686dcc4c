"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from clikit import kesit, shop
from federationkit import place, whole

__all__ = ["kesit", "place", "shop", "whole"]
