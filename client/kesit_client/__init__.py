"""Runs beside the data: sources, coding, policy, the books, and the answers to the server."""
