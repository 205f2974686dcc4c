"""Classifiers: from noisy masked sums to a model that a person can read."""
