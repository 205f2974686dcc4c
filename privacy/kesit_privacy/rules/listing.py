"""A pack as a table for people: what docs/reference/rules.md shows, and a test compares."""

from __future__ import annotations

from kesit_privacy.rules.pack import Pack, Rule

_HEAD = """| rule | provision | severity | duty | görev | check |
|---|---|---|---|---|---|
"""


def markdown(pack: Pack) -> str:
    """The pack's rules as a Markdown table, in the pack's order."""
    return _HEAD + "".join(_row(pack, rule) for rule in pack.rules)


def _row(pack: Pack, rule: Rule) -> str:
    source = pack.sources[rule.source]
    severity = rule.severity + (", needs counsel" if rule.needs_counsel else "")
    limits = [f"if {rule.when}"] if rule.when else []
    limits += [f"profile {rule.profile}"] if rule.profile else []
    check = f"`{rule.check}`" + (f" ({'; '.join(limits)})" if limits else "")
    cells = (
        f"`{rule.id}`",
        f"{rule.article.en} ({source.dated:%Y-%m-%d})",
        severity,
        rule.duty.en,
        rule.duty.tr,
        check,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
