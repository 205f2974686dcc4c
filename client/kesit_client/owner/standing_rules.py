"""Blocking rules of data protection while studies run: what held at the approval may have ended.

Rules of two kinds are judged, and their refusals say different things to a server:

- Rules over the study, the policy, the members and what people attest. No person's record can
  change their facts, so that a refusal tells of settings alone, as the policy's own refusals do
  (rule 10 of the protocol). They are judged when a run begins and before each sum: it takes
  milliseconds.
- Rules over persons' records. One record can decide about them, so that answers which followed them
  up and down would tell of that person, hello by hello. So they are judged when a run begins, and
  the first failure ends the owner's approval, with the code of a study that was never approved.
  What the records do after that shows to nobody before the owner looks and approves again: a server
  learns one bit an approval, and learns that much from approvals themselves, before which the same
  rules stand. Within a run they are not judged again: a refusal there would tell at which sum a
  record came. Who has no ground by then is taken out by the gate, row by row.
"""

from __future__ import annotations

from typing import Protocol

from kesit_client.ledger.store import Store
from kesit_privacy.errors import KesitError
from kesit_privacy.study import Study
from kesit_privacy.wire import Refusal, RefusalCode


class Rules(Protocol):
    """The owner's blocking rules, judged over the facts of this moment."""

    def __call__(self, study: Study, now: float, *, of_persons: bool) -> str | None:
        """Why the study must not run at `now` (Unix seconds), for the owner's eyes; else None.

        Args:
            of_persons: rules over persons' records; else those over settings alone.

        Raises:
            KesitError: the facts cannot be read.
        """


def require_settings(rules: Rules | None, study: Study, now: float) -> None:
    """Refuse while a blocking rule fails that no person's record decides.

    Raises:
        Refusal: POLICY, or UNAVAILABLE where the facts cannot be read.
    """
    cause = _forbidden(rules, study, now, of_persons=False)
    if cause is not None:
        raise Refusal(
            RefusalCode.POLICY,
            f"The rules of data protection forbid this study here by now. {cause}",
            remedy="`kesit client rules STUDY.toml` says what to do about each.",
        )


def require_records(rules: Rules | None, study: Study, now: float, store: Store) -> None:
    """Take the owner's approval back when a blocking rule over persons' records fails.

    Raises:
        Refusal: NOT_APPROVED, or UNAVAILABLE where the facts cannot be read.
    """
    cause = _forbidden(rules, study, now, of_persons=True)
    if cause is None:
        return
    with store.transaction() as books:
        books.withdraw(study.hash)
    raise Refusal(
        RefusalCode.NOT_APPROVED,
        f"The approval was taken back: the rules of data protection forbid the study. {cause}",
        remedy="`kesit client rules STUDY.toml` says what to do about each; then approve the"
        " study again.",
    )


def _forbidden(rules: Rules | None, study: Study, now: float, *, of_persons: bool) -> str | None:
    if rules is None:
        return None
    try:
        return rules(study, now, of_persons=of_persons)
    except KesitError as error:  # what cannot be judged is not passed
        raise Refusal(
            RefusalCode.UNAVAILABLE,
            f"The rules of data protection cannot be judged. {error.cause}",
            remedy=error.remedy,
        ) from error
