"""How the command ends: exit codes for scripts, and one clear block of text for people.

Documented in docs/reference/cli.md; a test holds the two together.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final, NoReturn

import typer

from kesit_cli.show import console, new_table, plain, put
from kesit_privacy.errors import BudgetError, KesitError, ProtocolError

OK: Final = 0
BUG: Final = 1
USAGE: Final = 2
SETTINGS: Final = 3
DATA: Final = 4
BUDGET: Final = 5
FEDERATION: Final = 6
RESULT: Final = 7
INTERRUPTED: Final = 130

DEBUG_VARIABLE: Final = "KESIT_DEBUG"


def code_of(error: BaseException) -> int:
    """The exit code that an error stands for."""
    from kesit_client.errors import ConsentError, DataError, SourceError, StoreError
    from kesit_privacy.errors import ModelError
    from kesit_server.errors import FederationError, ResultError
    from kesit_simulations.errors import DatasetError

    codes: tuple[tuple[type[KesitError], int], ...] = (
        (DataError, DATA),
        (SourceError, DATA),
        (StoreError, DATA),
        (ConsentError, DATA),
        (DatasetError, DATA),
        (BudgetError, BUDGET),
        (FederationError, FEDERATION),
        (ProtocolError, FEDERATION),
        (ResultError, RESULT),
        (ModelError, RESULT),
        (KesitError, SETTINGS),
    )
    return next((code for kind, code in codes if isinstance(error, kind)), BUG)


def leave(error: Exception) -> NoReturn:
    """Say what is wrong and what would help, on stderr, and exit."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    if isinstance(error, KesitError):
        _explain(error)
    else:
        _say("Error", f"{type(error).__name__}: this is a bug in Kesit, or a broken installation.")
        _say("What to do", f"Rerun with {DEBUG_VARIABLE}=1 for the details, and report them.")
    sys.exit(code_of(error))


def _explain(error: KesitError) -> None:
    from kesit_client.errors import DataError

    if not isinstance(error, DataError) or len(error.problems) == 1:
        _say("Error", error.cause)
        _say("What to do", error.remedy)
        return
    _say("Error", f"the data do not fit the study; {len(error.problems)} problems:")
    table = new_table("where", "what is wrong", "what to do")
    for problem in error.problems:
        table.add_row(problem.field, problem.cause, problem.remedy)
    put(console(stderr=True), table)
    _say("What to do", "Solve each of them as the table says, and run the command again.")


def _say(label: str, text: str) -> None:
    typer.echo(f"{typer.style(f'{label}:', bold=True)} {plain(text)}", err=True)
