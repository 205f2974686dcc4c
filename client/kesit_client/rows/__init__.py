"""Customers on their way in: the source, their codes, the cache that a run reads."""
