"""The checklist: every rule that stands between an instruction and an answer, in one function.

`judge` reads the client's own copies (study, policy, books) and decides inside the transaction in
which the charge is committed. What it returns is what will be charged and computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kesit_client.ledger import pots
from kesit_client.ledger.books import Books, Charge, Run, pack_roster, unpack_roster
from kesit_client.neural import training
from kesit_client.owner.policy import Policy
from kesit_privacy import accounting
from kesit_privacy.errors import BudgetError, ProtocolError
from kesit_privacy.hello import HelloRequest, Transcript
from kesit_privacy.instruction import Instruction
from kesit_privacy.masking import connectivity
from kesit_privacy.noise import SECURE, SMALLEST_SHARE_VARIANCE
from kesit_privacy.queries import Query, TrainedWeights, bind
from kesit_privacy.sides import BySide
from kesit_privacy.study import Study
from kesit_privacy.target import book_side
from kesit_privacy.wire import Refusal, RefusalCode


@dataclass(frozen=True)
class Approved:
    """An instruction that passed: the query to compute, and whether it is charged already."""

    query: Query
    run: Run
    charge: Charge
    charged_before: bool = field(default=False)


@dataclass(frozen=True)
class Budget:
    """A cap, what is spent under it, and what sums of one run have to do with that.

    Attributes:
        cap, spent: units of μ².
        own: of what is spent, the run's part, by side; only its dearer side is spent.
    """

    name: str
    cap: int
    spent: int
    own: BySide

    def cost(self, charge: Charge) -> int:
        """What a further charge of the run adds: nothing while the other side is dearer."""
        return self.own.plus(charge.units, charge.side).units - self.own.units


def judge(
    instruction: Instruction,
    digest: bytes,
    transcript: Transcript,
    *,
    me: str,
    mode: str,
    study: Study | None,
    policy: Policy,
    books: Books,
    now: float,
) -> Approved:
    """Decide about one instruction (rule 19 of the protocol), in this order.

    Args:
        digest: I, of the bytes as received.
        me, mode: this client's identity, and the mode that its hello declared.
        study: this client's own copy of the study that the instruction names, if it has one.
        now: Unix seconds; what the policy's window and periods are judged by.

    Raises:
        Refusal: with the code that the server may learn, and the cause for the owner's log.
    """
    # 1. The study is approved here, and the policy allows what it wants.
    study = _approved_study(study, books)
    check_policy(study, policy)
    check_window(policy, now)
    # 2. The run is one to which this client said hello, with a key that it still holds.
    check_server(transcript.request, policy)
    run = _own_run(instruction, transcript, study, me, books)
    # 3. Everyone in the transcript made noise as this client does; all of the roster are pinned.
    check_modes(transcript, mode)
    _check_roster(instruction, transcript, study, policy, me)
    # 4. The step, its query and its parameters are in the plan and in range; the customers whom the
    #    query counts are on the side for which the plan prices the step.
    query = _planned_query(instruction, study, policy)
    # 5. The noise is fine enough, and Δ, c and m are those of this client's own copy.
    units = _recomputed_charge(instruction, study, query)
    # 6. Nothing else was answered for this step and attempt; rosters only shrink.
    charge = Charge(
        run.run,
        instruction.step,
        instruction.attempt,
        digest,
        study.hash,
        study.purpose,
        units,
        now,
        side=book_side(study, query.counts),
    )
    if _answered_before(charge, instruction, run, books):
        return Approved(query, run, charge, charged_before=True)
    # 7. Every budget holds.
    _check_budgets(charge, instruction, study, policy, books)
    if isinstance(query, TrainedWeights):
        pots.check(study, policy, books)
    return Approved(query, run, charge)


def check_policy(study: Study, policy: Policy) -> None:
    """Refuse a study that this owner does not allow: its purpose, features, queries, hash or cost.

    Raises:
        Refusal: with code POLICY.
    """
    wanted = {
        "purpose": ([study.purpose], policy.purposes),
        "feature": ([feature.name for feature in study.features], policy.features),
        "query": ([step.query for step in study.plan], policy.queries),
    }
    for kind, (names, allowed) in wanted.items():
        for name in names:
            if name not in allowed:
                raise Refusal(
                    RefusalCode.POLICY,
                    f"The policy does not allow the {kind} {name!r}.",
                    remedy=f"Add it to the policy's {kind} list, or do not take part.",
                )

    if policy.studies is not None and study.hash not in policy.studies:
        raise Refusal(
            RefusalCode.POLICY,
            f"The policy lists the studies that it allows, and {study.hash[:16]} is not one.",
            remedy="Add its whole hash to the policy's studies list, or do not take part.",
        )
    training_cost = study.pot.epsilon if study.pot else 0.0
    left = None if policy.max_epsilon is None else policy.max_epsilon - training_cost
    if left is not None and (left <= 0 or study.mu2_units > policy.units(left)):
        costs = accounting.epsilon(study.mu2_units, policy.lifetime.delta) + training_cost
        raise Refusal(
            RefusalCode.POLICY,
            f"The study costs ε = {costs:.3g} at δ = {policy.lifetime.delta:g}, more than the"
            f" policy's max_epsilon of {policy.max_epsilon:g}.",
            remedy="Agree on a smaller epsilon, raise max_epsilon, or do not take part.",
        )
    pots.check_policy(study, policy)
    training.check_installed(study)


def check_window(policy: Policy, now: float) -> None:
    """Refuse at an hour or on a day on which the owner lets the node answer nothing.

    Raises:
        Refusal: with code POLICY.
    """
    window = policy.window
    if window is not None and not window.holds(now):
        raise Refusal(
            RefusalCode.POLICY,
            f"It is outside {window.hours} ({window.time_zone}) on {', '.join(window.days)}.",
            remedy="Run the study within these hours, or change the policy's [window].",
        )


def check_server(request: HelloRequest, policy: Policy) -> None:
    """Refuse a server that the policy does not pin.

    Raises:
        Refusal: with code NOT_PINNED.
    """
    if request.server not in policy.servers:
        raise Refusal(
            RefusalCode.NOT_PINNED,
            f"The server {request.server} is not pinned.",
            remedy="Compare its fingerprint out of band, then add it to the policy's servers.",
        )


def check_modes(transcript: Transcript, mode: str) -> None:
    """Refuse a run in which anyone makes noise in another way than this client.

    A real client's own mode is `SECURE`, so a simulated hello anywhere is refused.

    Raises:
        Refusal: with code NOT_PINNED.
    """
    if transcript.modes != {mode}:
        others = ", ".join(sorted(transcript.modes - {mode}))
        raise Refusal(
            RefusalCode.NOT_PINNED,
            f"A member's noise is {others!r}, this client's is {mode!r}.",
            remedy="Simulated clients have no place in a real run."
            if mode == SECURE
            else "Use one noise mode for all clients of a simulation.",
        )


def _approved_study(study: Study | None, books: Books) -> Study:
    if study is None or not books.approved(study.hash):
        raise Refusal(
            RefusalCode.NOT_APPROVED,
            "The instruction names a study that is not approved here.",
            remedy="Compare the study's hash with the other members, then approve this copy.",
        )
    return study


def _own_run(
    instruction: Instruction, transcript: Transcript, study: Study, me: str, books: Books
) -> Run:
    run = books.run(instruction.run)
    request = transcript.request
    mine = transcript.by_identity.get(me)
    if (
        run is None
        or run.ephemeral is None
        or mine is None
        or mine.encoded != run.hello
        or run.study != study.hash
        or (request.study, request.run, request.server) != (run.study, run.run, run.server)
        or instruction.transcript != transcript.hash
        or run.transcript not in (None, transcript.hash)
    ):
        raise Refusal(
            RefusalCode.BAD_REQUEST,
            "The transcript is not that of a run to which this client said hello.",
            remedy="The server must start a new run.",
        )
    return run


def _check_roster(
    instruction: Instruction, transcript: Transcript, study: Study, policy: Policy, me: str
) -> None:
    roster = instruction.roster
    members = frozenset(roster)
    if me not in members or not members <= transcript.by_identity.keys():
        raise _bad_roster("The roster lacks this client, or names someone who said no hello.")
    smallest = max(study.roster.min_size, study.roster.max_colluders + 2, policy.min_roster)
    if len(roster) < smallest:
        raise _bad_roster(f"The roster of {len(roster)} is smaller than {smallest}.")
    if policy.max_roster is not None and len(roster) > policy.max_roster:
        raise _bad_roster(f"The roster of {len(roster)} is larger than {policy.max_roster}.")
    if connectivity(len(roster)) <= study.roster.max_colluders:
        raise _bad_roster("As many colluders as the study allows could split the masking graph.")
    strangers = members - policy.pinned - {me}
    if strangers:
        raise Refusal(
            RefusalCode.NOT_PINNED,
            f"{len(strangers)} members are not pinned (first: {min(strangers)}).",
            remedy="Compare fingerprints out of band, then add them to the policy's peers.",
        )


def _planned_query(instruction: Instruction, study: Study, policy: Policy) -> Query:
    step = study.step(instruction.step)
    if step is None or step.query != instruction.query or step.query not in policy.queries:
        raise Refusal(
            RefusalCode.NOT_IN_PLAN,
            f"The plan has no step {instruction.step!r} with the query {instruction.query!r}.",
            remedy="The server must run the study as it was agreed.",
        )
    try:
        query = bind(
            study,
            instruction.query,
            instruction.query_version,
            instruction.params,
            instruction.scale_bits,
        )
    except ProtocolError as error:
        raise Refusal(RefusalCode.BAD_REQUEST, error.cause, remedy=error.remedy) from error
    if book_side(study, query.counts) is not study.side(step):
        raise Refusal(
            RefusalCode.NOT_IN_PLAN,
            f"The sum would not keep to the customers for whom the plan prices {step.step!r}.",
            remedy="The server must split customers as the study does.",
        )
    canaries = instruction.canaries
    if canaries.count and canaries.holder not in instruction.roster:
        raise Refusal(
            RefusalCode.BAD_REQUEST,
            "The holder of the canaries is not in the roster.",
            remedy="The server must name a member.",
        )
    if query.length + canaries.count != instruction.length:
        raise Refusal(
            RefusalCode.BAD_REQUEST,
            "The vector's length is not that of its query.",
            remedy="Server and clients must run compatible versions of Kesit.",
        )
    return query


def _recomputed_charge(instruction: Instruction, study: Study, query: Query) -> int:
    told = (instruction.delta_sq, instruction.colluders, instruction.multiplicity)
    own = (query.delta_sq, study.roster.max_colluders, study.max_clients_per_customer)
    if told != own:
        raise Refusal(
            RefusalCode.NOT_IN_PLAN,
            f"(Δ², c, m) are {told} in the instruction and {own} by this client's own copy.",
            remedy="The server must run the study as it was agreed.",
        )
    if isinstance(query, TrainedWeights):
        pots.check_instruction(instruction, query)
        return 0
    if instruction.share_variance < SMALLEST_SHARE_VARIANCE:
        raise Refusal(
            RefusalCode.BAD_REQUEST,
            "The noise share is under four lattice units.",
            remedy="The server must use a finer lattice.",
        )
    try:
        units = accounting.charge_units(
            delta_sq=query.delta_sq,
            multiplicity=study.max_clients_per_customer,
            share_variance=instruction.share_variance,
            roster=len(instruction.roster),
            colluders=study.roster.max_colluders,
        )
    except BudgetError as error:
        raise _bad_roster(error.cause) from error
    step = study.step(instruction.step)
    if step is None or units > study.step_units(step):
        raise Refusal(
            RefusalCode.NOT_IN_PLAN,
            f"The attempt would cost {units} units, more than the plan gives its step.",
            remedy="The server must add the noise that was agreed.",
        )
    return units


def _answered_before(charge: Charge, instruction: Instruction, run: Run, books: Books) -> bool:
    earlier = books.charges(run.run, instruction.step)
    for old in earlier:
        if old.attempt == charge.attempt:
            if old.instruction == charge.instruction and old.origin == "own":
                return True
            raise Refusal(
                RefusalCode.REPEATED,
                f"Another instruction was answered for {charge.step}, attempt {charge.attempt}.",
                remedy="If the server did not restart, treat it as an attack; tell the members.",
            )
    if any(old.attempt > charge.attempt for old in earlier):
        raise _bad_roster("A later attempt was answered already.")
    if run.last_roster is not None:
        _check_shrinks(instruction.roster, run.last_roster, strictly=bool(earlier))
    return False


def _check_shrinks(roster: Sequence[str], last: bytes, *, strictly: bool) -> None:
    same = pack_roster(roster) == last
    if (same and strictly) or (not same and not set(roster) <= set(unpack_roster(last))):
        raise _bad_roster("The roster is not a (strict) subset of the one before.")


def _check_budgets(
    charge: Charge, instruction: Instruction, study: Study, policy: Policy, books: Books
) -> None:
    for budget in budgets(study, policy, books, charge.charged_at, charge.run):
        try:
            accounting.GaussianFilter(budget.cap, budget.spent).charge(budget.cost(charge))
        except BudgetError as error:
            raise Refusal(
                RefusalCode.BUDGET, f"The {budget.name} budget: {error.cause}", remedy=error.remedy
            ) from error


def budgets(
    study: Study, policy: Policy, books: Books, now: float, run: str | None = None
) -> list[Budget]:
    """Every budget that a charge for this study must fit.

    Args:
        now: Unix seconds, from which the policy's periods look back.
        run: whose charge it would be; None for a run that is still to come.
    """
    return [
        _budget("study", study.mu2_units, books.by_run(study=study.hash), study, run),
        *caps(policy, books, now, study, run),
    ]


def caps(
    policy: Policy,
    books: Books,
    now: float,
    study: Study | None = None,
    run: str | None = None,
) -> list[Budget]:
    """Every cap of the policy.

    Args:
        now: Unix seconds, from which the periods look back.
        study: leave out the caps of other purposes than this study's.
        run: as for `budgets`.
    """

    def budget(name: str, epsilon: float, paid: dict[tuple[str, str], BySide]) -> Budget:
        return _budget(name, policy.units(epsilon), paid, study, run)

    found = [budget("lifetime", policy.lifetime.epsilon, books.by_run())]
    found += [
        budget(f"{p.days}-day", p.epsilon, books.by_run(since=now - p.days * 86_400))
        for p in policy.periods
    ]
    found += [
        budget(f"purpose {c.purpose!r}", c.epsilon, books.by_run(purpose=c.purpose))
        for c in policy.purpose_caps
        if study is None or c.purpose == study.purpose
    ]
    return found


def _budget(
    name: str,
    cap: int,
    paid: dict[tuple[str, str], BySide],
    study: Study | None,
    run: str | None,
) -> Budget:
    own = BySide() if study is None or run is None else paid.get((study.hash, run), BySide())
    return Budget(name, cap, sum(p.units for p in paid.values()), own)


def _bad_roster(cause: str) -> Refusal:
    return Refusal(RefusalCode.ROSTER, cause, remedy="The server must use another roster.")
