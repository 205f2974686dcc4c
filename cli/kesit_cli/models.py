"""Models on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from kesit_cli import show

if TYPE_CHECKING:
    from kesit_server.classification.card import ModelCard

MOST_FEATURES = 12


def print_model(out: Console, card: ModelCard) -> None:
    """What the model goes by, the most telling features first."""
    table = show.new_table("feature", "importance (logits)", right=(1,))
    for name, value in list(card.importances.items())[:MOST_FEATURES]:
        table.add_row(name, f"{value:.2f}")
    show.put(out, table)
    left = len(card.importances) - MOST_FEATURES
    if left > 0:
        out.print(f"not shown: {left} features that tell less (model.json)")
