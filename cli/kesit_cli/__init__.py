"""The `kesit` command."""
