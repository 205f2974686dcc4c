"""Progress on stderr: a bar on a terminal, a line a step elsewhere. Nothing of it on stdout."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar

from kesit_cli.show import console

LINE_SECONDS = 2.0
"""Without a terminal, at most one line of counts in this time."""


class Progress:
    """Tells what is being done. `event` and `reply` fit `kesit_simulations.runner.Watcher`."""

    def __init__(self, first: str) -> None:
        self._console = console(stderr=True)
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                redirect_stdout=False,  # stdout may be a file or a pipe
            )
            self._task = self._bar.add_task(first, total=None)
        self._last_line = time.monotonic()
        self._first = first

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        else:
            self._print(self._first)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def event(self, text: str) -> None:
        """A new step begins, or something notable happened."""
        self._print(text)
        if self._bar is not None:
            self._bar.reset(self._task, description=text, total=None)

    def reply(self, answered: int, asked: int) -> None:
        """So many of those asked in the present step have answered."""
        if self._bar is not None:
            # When all have answered, what follows is the server's own work, of unknown length.
            total = None if answered == asked else asked
            self._bar.update(self._task, completed=answered, total=total)
        elif answered < asked and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._print(f"  {answered} of {asked} answered")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text, soft_wrap=True)
