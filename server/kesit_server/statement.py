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
from kesit_privacy.identity import Identity
from kesit_privacy.noise import SECURE
from kesit_privacy.sides import BookSide
from kesit_privacy.spending import sign_log
from kesit_privacy.study import Study
from kesit_server import pots, results
from kesit_server.federation import Federation
from kesit_server.statement_text import as_text
from kesit_server.wording import Wording, labels


def privacy_statement(federation: Federation, failure: KesitError | None = None) -> dict[str, Any]:
    """The statement as plain values; `statement_text` renders them.

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
        "labels": {name: words.as_dict() for name, words in labels(study.features).items()},
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kesit": version("kesit"),
        "run": federation.run,
        "releasable": federation.modes == {SECURE},
        "promise_kept": not any(part in mode for mode in modes for part in ("-off", "-unmasked")),
        "result": failure is None,
        "caveats": [
            *([_no_result(failure).as_dict()] if failure else []),
            *(words.as_dict() for words in caveats(federation)),
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


def _apart(federation: Federation) -> dict[str, str] | None:
    """Why the costs of training and evaluation do not add, if the run had both."""
    sides = {entry.side for entry in federation.spending}
    return APART.as_dict() if sides == {BookSide.TRAIN, BookSide.HELD} else None


def round_up(epsilon: float) -> float:
    """ε to four digits after the point, never less than it is."""
    rounded = round(epsilon, 4)
    return rounded if rounded >= epsilon else round(rounded + 1e-4, 4)


def statement_files(
    federation: Federation, identity: Identity, failure: KesitError | None = None
) -> dict[str, bytes]:
    """The files that every run leaves: the statement, the study, the server's signed log.

    Args:
        failure: what ended a run without a result.
    """
    statement = privacy_statement(federation, failure)
    return {
        results.PRIVACY: results.as_json(statement),
        results.STATEMENT: as_text(statement).encode(),
        results.STATEMENT_TR: as_text(statement, "tr").encode(),
        results.STUDY: federation.study.canonical,
        results.SPENDING: sign_log(federation.spending, identity),
    }


def _no_result(failure: KesitError) -> Wording:
    return Wording(f"There is no result. {failure}", f"Sonuç yok. {failure}")


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
