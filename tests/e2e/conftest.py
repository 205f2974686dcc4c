"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from clikit import kesit, shop
from federationkit import place, whole
from raykit import tidy

__all__ = ["kesit", "place", "shop", "tidy", "whole"]
