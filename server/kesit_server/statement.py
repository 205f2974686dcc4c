"""The privacy statement: what a run spent and promises, from its books, in plain words.

It claims no more than happened: a run with simulated noise, without masks or without noise says so
first, and its numbers are those that a real run would have spent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from kesit_privacy import accounting
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import KesitError
from kesit_privacy.noise import SECURE
from kesit_privacy.sides import BookSide
from kesit_privacy.study import Study
from kesit_server import pots
from kesit_server.federation import Federation
from kesit_server.wording import Wording


def privacy_statement(federation: Federation, failure: KesitError | None = None) -> dict[str, Any]:
    """The statement as plain values; `as_text` renders them.

    Args:
        failure: what ended a run without a result; what it asked for is spent all the same.
    """
    study = federation.study
    modes = sorted(federation.modes)
    spent = pots.Spent.of(study, federation.spending)
    return {
        "study": study.name,
        "study_hash": study.hash,
        "purpose": study.purpose,
        "legal_basis": study.legal_basis,
        "target": study.target if study.classification is not None else None,
        "made_of": [feature.name for feature in Embedding.of(study).features],
        "protected": list(study.protected),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kesit": version("kesit"),
        "run": federation.run,
        "releasable": federation.modes == {SECURE},
        "promise_kept": not any(part in mode for mode in modes for part in ("-off", "-unmasked")),
        "result": failure is None,
        "caveats": [
            *([f"There is no result. {failure}"] if failure else []),
            *(words.en for words in caveats(federation)),
        ],
        "member_modes": modes,
        "unit": "one customer, added or removed",
        "max_clients_per_customer": study.max_clients_per_customer,
        "epsilon_agreed": study.epsilon,
        "delta": study.delta,
        "epsilon_spent": round_up(spent.epsilon),
        "mu_spent": accounting.mu(spent.units),
        **_pots(study, spent),
        "max_colluders": study.roster.max_colluders,
        "members": len(federation.greeted),
        "members_left": federation.members,
        "apart": _apart(federation),
        "sums": [
            {
                "step": entry.step,
                "attempt": entry.attempt,
                "members": len(entry.roster),
                "customers": str(entry.side),
                "opened": any(
                    (opened.step, opened.attempt) == (entry.step, entry.attempt)
                    for opened in federation.sums
                ),
                "share_of_mu2": entry.units / study.mu2_units,
                "epsilon_alone": round_up(pots.alone(study, entry)),
            }
            for entry in federation.spending
        ],
    }


def _pots(study: Study, spent: pots.Spent) -> dict[str, Any]:
    """The parts of ε, of a study that has two."""
    told = [
        {**pot, "epsilon_spent": round_up(pot["epsilon_spent"])} for pot in pots.told(study, spent)
    ]
    return {"pots": told} if told else {}


def as_text(statement: dict[str, Any]) -> str:
    """The statement for a person, as Markdown."""
    lines = [f"# Privacy statement: {statement['study']}", ""]
    lines += [f"**{caveat}**" for caveat in statement["caveats"]]
    lines += [""] if statement["caveats"] else []
    lines += [*_promise(statement), ""]
    lines += [
        f"{_OF_SUMS[statement['result']]} (their costs add up as"
        " squares, so the ε of each alone do not add up to the whole):",
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
    lines += ["", statement["apart"]["en"]] if statement["apart"] else []
    lines += _told_pots(statement)
    protected = ", ".join(statement["protected"]) or "none"
    lines += [
        "",
        "The promise holds for members that follow the protocol, whatever the server does. It says"
        " nothing of data that a member publishes otherwise, and it does not stop a member from"
        f" sending wrong data about its own customers. {_personal(statement)}",
        "",
        f"Purpose: {statement['purpose']}, on the ground {statement['legal_basis']}."
        f" {_made(statement)}: {', '.join(statement['made_of'])}. Protected: {protected}.",
        "",
        f"Study {statement['study_hash']}, run {statement['run']}, written by Kesit"
        f" {statement['kesit']} at {statement['written_at']}.",
        "",
    ]
    return "\n".join(lines)


def _told_pots(statement: dict[str, Any]) -> list[str]:
    if "pots" not in statement:
        return []
    parts = [
        f"{pot['pot']}: ε = {pot['epsilon_spent']} of {pot['epsilon_agreed']:g} at"
        f" δ = {pot['delta']:g}"
        for pot in statement["pots"]
    ]
    return ["", f"The budget has two pots, whose ε and δ add up. {'; '.join(parts)}."]


def _made(statement: dict[str, Any]) -> str:
    """How to begin the list of features."""
    target = statement["target"]
    return "Segments were made of" if target is None else f"A model of {target} was made of"


def _personal(statement: dict[str, Any]) -> str:
    """What can be done with the result that is about one person again."""
    if statement["target"] is None:
        return "A segment of one customer is personal data."
    return "What the model says of one customer is personal data."


_OF_SUMS = {
    True: "Every number of the result was computed from these sums alone",
    False: "These sums were asked for. Each member that did not refuse was charged, so this is the"
    " most that it can have cost any of them",
}


def _promise(statement: dict[str, Any]) -> list[str]:
    """The promise in a sentence, in the mood that is true."""
    spent, delta = statement["epsilon_spent"], f"{statement['delta']:g}"
    agreed = f"The members had agreed on ε = {statement['epsilon_agreed']:g}."
    if not statement["promise_kept"]:
        return [
            f"This run kept no promise to anyone. With noise and masks the same sums would have"
            f" cost ε = {spent} at δ = {delta}. {agreed}"
        ]
    verb = "gave" if statement["releasable"] else "would have given"
    return [
        f"Adding or removing one customer, who may be at up to"
        f" {statement['max_clients_per_customer']} of the {statement['members']} members, {verb}"
        f" whoever watched this run (the server, and up to {statement['max_colluders']} of the"
        f" members together with it) an advantage bounded by ε = {spent} at δ = {delta}. {agreed}"
    ]


def _apart(federation: Federation) -> dict[str, str] | None:
    """Why the costs of training and evaluation do not add, if the run had both."""
    sides = {entry.side for entry in federation.spending}
    return APART.as_dict() if sides == {BookSide.TRAIN, BookSide.HELD} else None


def round_up(epsilon: float) -> float:
    """ε to four digits after the point, never less than it is."""
    rounded = round(epsilon, 4)
    return rounded if rounded >= epsilon else round(rounded + 1e-4, 4)


def caveats(federation: Federation) -> tuple[Wording, ...]:
    """What limits the result, for whoever reads no further."""
    found, modes = [], federation.modes
    if modes == {"simulated-secure"}:
        found.append(_SIMULATED_MEMBERS)
    elif modes != {SECURE}:
        found.append(_SIMULATED_NOISE)
    if any("-off" in mode for mode in modes):
        found.append(_NO_NOISE)
    if any(mode.endswith("unmasked") for mode in modes):
        found.append(_NO_MASKS)
    all_of_them = len(federation.greeted)
    gone = all_of_them - federation.members
    if gone:
        found.append(
            Wording(
                f"{gone} of {all_of_them} members fell away: the last sums lack their customers.",
                f"{all_of_them} üyeden {gone} tanesi ayrıldı: son toplamlarda müşterileri yok.",
            )
        )
    return tuple(found)


APART = Wording(
    "The evaluation looked only at customers whom training did not look at, so the costs of the two"
    " do not add: each customer paid for one of them.",
    "Değerlendirme yalnızca eğitimin bakmadığı müşterilere baktı; bu yüzden ikisinin maliyeti"
    " toplanmaz: her müşteri yalnızca birini ödedi.",
)
_SIMULATED_MEMBERS = Wording(
    "Simulated members, not releasable: all ran in one process.",
    "Simüle edilmiş üyeler, yayımlanamaz: hepsi tek bir süreçte çalıştı.",
)
_SIMULATED_NOISE = Wording(
    "Simulated noise, not releasable: all ran in one process.",
    "Simüle edilmiş gürültü, yayımlanamaz: hepsi tek bir süreçte çalıştı.",
)
_NO_NOISE = Wording(
    "Noise was off: this run gave no differential privacy at all.",
    "Gürültü kapalıydı: bu çalıştırma hiçbir diferansiyel mahremiyet sağlamadı.",
)
_NO_MASKS = Wording(
    "Masks were off: the server saw each member's own sums.",
    "Maskeler kapalıydı: sunucu her üyenin kendi toplamlarını gördü.",
)
