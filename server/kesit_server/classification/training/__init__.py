"""Estimators: from noisy sums to a model of scores."""
