"""Progress on stderr: a bar on a terminal, a line a step elsewhere. Nothing of it on stdout."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from kesit_cli.show import console, plain

LINE_SECONDS = 2.0
"""Without a terminal, at most one line of counts in this time."""

CELL_LINE_SECONDS = 10.0
"""The same for a sweep."""


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
            self._print(f"  {answered} of {asked} have answered so far")

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(plain(text), soft_wrap=True)


class CellProgress:
    """How far a sweep is: cells done and failed, and about how long the rest will take."""

    def __init__(self, cells: int) -> None:
        self._console = console(stderr=True)
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            self._bar = Bar(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("cells, {task.fields[failed]} failed"),
                TimeElapsedColumn(),
                TextColumn("left:"),
                TimeRemainingColumn(),
                console=self._console,
                redirect_stdout=False,
            )
            self._task = self._bar.add_task("", total=cells, failed=0)
        self._cells = cells
        self._last_line = time.monotonic()
        self._mark: tuple[int, float] | None = None
        self.done: int | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, failed: int) -> None:
        """So many cells are done, so many of them failed; the first call says what was there."""
        now = time.monotonic()
        begins, self.done = self.done is None, done
        if not begins and self._mark is None:
            self._mark = done, now  # the pace counts from here: until now processes were started
        if self._bar is not None:
            self._bar.update(self._task, completed=done, failed=failed)
        elif begins or done == self._cells or now - self._last_line >= CELL_LINE_SECONDS:
            self._last_line = now
            self._console.print(
                f"{done:,} of {self._cells:,} cells, {failed:,} failed{self._left(done, now)}",
                soft_wrap=True,
            )

    def _left(self, done: int, now: float) -> str:
        """About how long the rest will take, at the pace of this run."""
        if self._mark is None or self._mark[0] == done or done == self._cells:
            return ""
        seconds = (now - self._mark[1]) / (done - self._mark[0]) * (self._cells - done)
        text = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        return f"; about {text} left"
