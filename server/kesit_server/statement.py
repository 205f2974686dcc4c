"""The privacy statement: what a run spent and promises, from its books, in plain words.

It claims no more than happened: a run with simulated noise, without masks or without noise says so
first, and its numbers are those that a real run would have spent.
"""

from __future__ import annotations

from typing import Any

from kesit_privacy import accounting
from kesit_privacy.noise import SECURE, SIMULATED
from kesit_server.federation import Federation


def privacy_statement(federation: Federation) -> dict[str, Any]:
    """The statement as plain values; `as_text` renders them."""
    study = federation.study
    modes = sorted(federation.modes)
    spent = federation.spent_units
    return {
        "study": study.name,
        "study_hash": study.hash,
        "run": federation.run,
        "releasable": federation.modes == {SECURE},
        "caveats": _caveats(federation.modes),
        "member_modes": modes,
        "unit": "one customer, added or removed",
        "max_clients_per_customer": study.max_clients_per_customer,
        "epsilon_agreed": study.epsilon,
        "delta": study.delta,
        "epsilon_spent": round_up(accounting.epsilon(spent, study.delta)),
        "mu_spent": accounting.mu(spent),
        "max_colluders": study.roster.max_colluders,
        "members": federation.members,
        "sums": [
            {
                "step": entry.step,
                "attempt": entry.attempt,
                "members": len(entry.roster),
                "opened": any(
                    (opened.step, opened.attempt) == (entry.step, entry.attempt)
                    for opened in federation.sums
                ),
                "share_of_mu2": entry.units / study.mu2_units,
                "epsilon_alone": round_up(accounting.epsilon(entry.units, study.delta)),
            }
            for entry in federation.spending
        ],
    }


def as_text(statement: dict[str, Any]) -> str:
    """The statement for a person, as Markdown."""
    lines = [f"# Privacy statement: {statement['study']}", ""]
    lines += [f"**{caveat}**" for caveat in statement["caveats"]]
    lines += [""] if statement["caveats"] else []
    members, colluders = statement["members"], statement["max_colluders"]
    multiplicity = statement["max_clients_per_customer"]
    verb = "gave" if statement["releasable"] else "would have given"
    lines += [
        f"Adding or removing one customer, who may be at up to {multiplicity} of the {members}"
        f" members, {verb} whoever watched this run (the server, and up to {colluders} of the"
        f" members together with it) an advantage bounded by ε = {statement['epsilon_spent']} at"
        f" δ = {statement['delta']:g}. The members had agreed on"
        f" ε = {statement['epsilon_agreed']:g}.",
        "",
        "Every number in the result was computed from these sums alone:",
        "",
        "| sum | attempt | members | opened | share of the budget (μ²) | ε alone |",
        "|---|---:|---:|---|---:|---:|",
    ]
    lines += [
        f"| {row['step']} | {row['attempt']} | {row['members']}"
        f" | {'yes' if row['opened'] else 'no'} | {row['share_of_mu2']:.1%}"
        f" | {row['epsilon_alone']} |"
        for row in statement["sums"]
    ]
    lines += [
        "",
        "The promise holds for members that follow the protocol, whatever the server does. It says"
        " nothing of data that a member publishes otherwise, and it does not stop a member from"
        " sending wrong data about its own customers. A segment of one customer is personal data.",
        "",
        f"Study {statement['study_hash']}, run {statement['run']}.",
        "",
    ]
    return "\n".join(lines)


def round_up(epsilon: float) -> float:
    """ε to four digits after the point, never less than it is."""
    rounded = round(epsilon, 4)
    return rounded if rounded >= epsilon else round(rounded + 1e-4, 4)


def _caveats(modes: frozenset[str]) -> list[str]:
    caveats = []
    if modes != {SECURE}:
        noise = SIMULATED if modes != {"simulated-secure"} else "Simulated members, not releasable"
        caveats.append(f"{noise[0].upper()}{noise[1:]}: all ran in one process.")
    if any("-off" in mode for mode in modes):
        caveats.append("Noise was off: this run gave no differential privacy at all.")
    if any(mode.endswith("unmasked") for mode in modes):
        caveats.append("Masks were off: the server saw each member's own sums.")
    return caveats
