"""`python -m kesit_cli`: the `kesit` command, for processes that must use this very Python."""

from kesit_cli.main import run

run()
