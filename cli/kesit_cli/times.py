"""Times that users give."""

from __future__ import annotations

import click


def moment(text: str | None, option: str, *, past: bool = True) -> int | None:
    """A time that the user gave, in µs.

    Raises:
        UsageError: no ISO 8601 time with an offset, or in the future.
    """
    from kesit_client.consent.events import now_us, read_time

    if text is None:
        return None
    try:
        found = read_time(text)[0]
    except ValueError as error:
        raise click.UsageError(
            f"{option} is no time with a UTC offset, such as 2026-03-02T10:00:00+03:00."
        ) from error
    if past and found > now_us():
        raise click.UsageError(f"{option} is in the future.")
    return found
