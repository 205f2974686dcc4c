"""The consent store of a client's folder, for commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kesit_cli import show

if TYPE_CHECKING:
    from kesit_client.consent.store import ConsentStore


@contextmanager
def opened(home: Path, *, create: bool = False) -> Iterator[ConsentStore]:
    """The consent store of a client's folder."""
    from kesit_client.consent.store import ConsentStore
    from kesit_client.home import own_request

    own_request(home)  # says so if this is no client's folder
    store = ConsentStore.open(home, create=create)
    try:
        yield store
    finally:
        store.close()


def warn_of_restored(store: ConsentStore) -> None:
    """Say on top, in both languages, that a store looks like an older copy, if it does."""
    from kesit_client.consent.witness import CAUTION

    if store.restored is not None:
        for text in CAUTION.values():
            show.console().print(text, soft_wrap=True)
        show.console().print()
