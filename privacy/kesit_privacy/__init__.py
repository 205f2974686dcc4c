"""Kesit's ground floor: studies, accounting, noise, queries and the private sum's messages."""
