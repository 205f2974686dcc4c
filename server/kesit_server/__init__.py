"""Coordinates: opens noisy sums over a federation and turns them into segments."""
