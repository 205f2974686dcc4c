"""A client's node: bytes in, bytes out, and nothing leaves that the rules do not allow.

Each handler turns whatever goes wrong into one code of the fixed list; causes go to the owner's
log. The order in `answer` is the protocol's: check, charge, commit; compute; store; send what was
stored.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kesit_client.checklist import Approved, check_policy, check_server, check_window, judge
from kesit_client.errors import ConsentError, SourceError
from kesit_client.ledger import pots
from kesit_client.ledger.books import Run
from kesit_client.ledger.store import Store
from kesit_client.neural.training import train
from kesit_client.owner.policy import Policy
from kesit_client.owner.standing_rules import Rules, require_records, require_settings
from kesit_client.rows.cache import Rows
from kesit_privacy import canonical
from kesit_privacy import hello as hello_form
from kesit_privacy import instruction as instruction_form
from kesit_privacy.canary import canary_bits, commitment
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.hello import Hello, HelloRequest, Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import Instruction
from kesit_privacy.masking import SharedSecrets, mask, neighbours, new_ephemeral
from kesit_privacy.noise import NoiseSource, SecureNoise, mode_label
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study import Study
from kesit_privacy.wire import Refusal, RefusalCode, pack_words, refusal, reply

LOG = logging.getLogger("kesit.client")


@dataclass
class Node:
    """One client.

    Attributes:
        identity: its long-lived key.
        policy, store: what its owner allows, and its books.
        studies: this client's own copies of studies, by hash.
        rows: opens the coded customers of a study.
        noise, masked, simulated: OpenDP's sampler, masked, for real. A simulated node's hello says
            so under its signature, and real nodes refuse it.
        clock: Unix seconds; tests set it.
        rules: judged when a run begins, and those of settings before each sum; None for none.
        attest: signs what was done in a run, when it ends. If it fails, the owner's log says so,
            and `kesit client attest` does it later; the server sees no difference.
    """

    identity: Identity
    policy: Policy
    store: Store
    studies: dict[str, Study]
    rows: Callable[[Study], Rows]
    noise: NoiseSource = field(default_factory=SecureNoise)
    masked: bool = True
    simulated: bool = False
    clock: Callable[[], float] = time.time
    rules: Rules | None = None
    attest: Callable[[str, Study], object] | None = None
    _secrets: dict[str, SharedSecrets] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.me = self.identity.public
        self.mode = mode_label(self.noise.mode, masked=self.masked, simulated=self.simulated)

    def approve(self, study: Study) -> None:
        """The owner's approval of one copy of a study."""
        self.studies[study.hash] = study
        with self.store.transaction() as books:
            books.approve(study)

    def hello(self, request: bytes) -> bytes:
        """Answer a hello request; asked again, with the same bytes as before."""
        return self._guard(request, lambda: self._hello(HelloRequest.parse(request)))

    def answer(self, request: bytes, transcript: bytes) -> bytes:
        """Answer an instruction with a masked, noisy vector, or refuse."""

        def attempt() -> bytes:
            order = instruction_form.read(request)
            digest = instruction_form.instruction_hash(request)
            return self._answer(request, order, digest, hello_form.read(transcript))

        return self._guard(request, attempt)

    def end(self, request: bytes) -> bytes:
        """Delete the run's private key: its masks can never be made again."""

        def finish() -> bytes:
            ended = HelloRequest.parse(request)
            with self.store.transaction() as books:
                known = books.run(ended.run)
                if known is not None:
                    _require_same_run(known, ended)
                    books.end_run(ended.run)
            self._secrets.pop(ended.run, None)
            study = self.studies.get(ended.study)
            if study is not None:
                if known is not None:
                    self._attest(ended.run, study)
                self.rows(study).release(ended.run)
            return b""

        return self._guard(request, finish)

    def _attest(self, run: str, study: Study) -> None:
        if self.attest is None:
            return
        try:
            self.attest(run, study)
        except Exception:  # an end must delete keys whatever else happens
            LOG.exception("the run %s could not be attested", run[:16])

    def _guard(self, request: bytes, handler: Callable[[], bytes]) -> bytes:
        try:
            reason = self.store.restored
            if reason is not None:
                raise Refusal(
                    RefusalCode.RESTORED,
                    f"The books look restored: {reason}.",
                    remedy="Get the server's signed log and merge it.",
                )
            return reply(handler())
        except Refusal as error:
            code, cause = error.code, str(error)
        except (SourceError, ConsentError) as error:
            code, cause = RefusalCode.UNAVAILABLE, str(error)
        except ProtocolError as error:
            code, cause = RefusalCode.BAD_REQUEST, str(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # nothing but a code may leave, not even a Rust panic
            LOG.exception("the node failed")
            code, cause = RefusalCode.INTERNAL, f"{type(error).__name__}: {error}"
        self._log_refusal(_claimed_run(request), code, cause)
        return refusal(code)

    def _log_refusal(self, run: str, code: RefusalCode, cause: str) -> None:
        LOG.warning("refused with %s: %s", code.name, cause)
        try:
            with self.store.transaction() as books:
                books.add_refusal(run, int(code), cause)
        except Exception:  # a full disk must not turn a refusal into an exception
            LOG.exception("the refusal could not be logged")

    def _hello(self, request: HelloRequest) -> bytes:
        check_server(request, self.policy)
        study = self.studies.get(request.study)
        with self.store.transaction() as books:
            if study is None or not books.approved(request.study):
                raise Refusal(
                    RefusalCode.NOT_APPROVED,
                    f"The study {request.study[:16]} is not approved here.",
                    remedy="Compare its hash with the other members, then approve it.",
                )
            known = books.run(request.run)
        check_policy(study, self.policy)
        check_window(self.policy, self.clock())
        require_settings(self.rules, study, self.clock())
        self.store.forget_old_runs()
        if known is None:
            require_records(self.rules, study, self.clock(), self.store)
            self.rows(study).prepare(request.run)
            known = self._begin_run(request)
        _require_same_run(known, request)
        if known.ephemeral is None:
            raise ProtocolError("The run has ended.", remedy="The server must start a new run.")
        return known.hello

    def _begin_run(self, request: HelloRequest) -> Run:
        private, public = new_ephemeral()
        seed = secrets.token_bytes(32)
        hello = Hello.sign(
            request,
            self.identity,
            ephemeral=public,
            mode=self.mode,
            canary=commitment(seed),
        )
        fresh = Run(
            request.run, request.study, request.server, hello.encoded, private, seed, None, None
        )
        with self.store.transaction() as books:
            books.add_run(fresh)
            kept = books.run(request.run)
        assert kept is not None
        return kept

    def _answer(
        self, request: bytes, order: Instruction, digest: bytes, transcript: Transcript
    ) -> bytes:
        study = self.studies.get(order.study)
        if study is not None:
            require_settings(self.rules, study, self.clock())
        with self.store.transaction() as books:
            approved = judge(
                order,
                digest,
                transcript,
                me=self.me,
                mode=self.mode,
                study=study,
                policy=self.policy,
                books=books,
                now=self.clock(),
            )
            if not approved.charged_before:
                books.add_charge(approved.charge, request)
                if isinstance(approved.query, TrainedWeights):
                    pots.add(books, approved.charge, approved.query.training.event)
                books.advance(order.run, order.transcript, order.roster)
            stored = books.answer(order.run, order.step, order.attempt)
        if stored is not None:
            return stored
        self.store.witness()
        assert study is not None
        vector = self._noisy_vector(order, approved, self.rows(study).codes(order.run))
        masked = self._masked(order, digest, transcript, approved.run, vector)
        with self.store.transaction() as books:
            now = books.run(order.run)
            if now is None or now.ephemeral is None:  # what is attested does not know of this sum
                raise ProtocolError("The run has ended.", remedy="The server must start a new run.")
            books.add_answer(order.run, order.step, order.attempt, masked)
            stored = books.answer(order.run, order.step, order.attempt)
        self.store.witness()
        assert stored is not None
        return stored

    def _noisy_vector(self, order: Instruction, approved: Approved, codes: CodeArray) -> IntArray:
        if isinstance(approved.query, TrainedWeights):  # the noise is in the training
            return train(approved.query, codes, self.noise)
        canaries, run = order.canaries, approved.run
        tail = np.zeros(canaries.count, dtype=np.int64)
        if canaries.count and canaries.holder == self.me:
            assert run.canary_seed is not None
            bits = canary_bits(run.canary_seed, run.run, order.step, order.attempt, canaries.count)
            tail += bits * canaries.amplitude
        exact = np.concatenate([approved.query.sum(codes), tail])
        # One call over data and canaries: the canaries test the noise that the data get.
        return exact + self.noise.sample(order.share_variance, order.length)

    def _masked(
        self,
        order: Instruction,
        digest: bytes,
        transcript: Transcript,
        run: Run,
        vector: IntArray,
    ) -> bytes:
        if not self.masked:
            return pack_words(vector.astype(np.uint64))
        assert run.ephemeral is not None
        if run.run not in self._secrets:
            self._secrets[run.run] = SharedSecrets(run.ephemeral)
        shared = self._secrets[run.run]
        words = mask(
            vector,
            me=self.me,
            secrets={
                peer: shared(transcript.by_identity[peer].ephemeral)
                for peer in neighbours(order.roster, self.me)
            },
            salt=bytes.fromhex(transcript.hash),
            instruction=digest,
        )
        return pack_words(words)


def _claimed_run(request: bytes) -> str:
    """The run that a request names, for the owner's log; "" if it names none."""
    try:
        run = canonical.decode(request)["run"]
        hello_form.check_hex(run, 16)
    except (ProtocolError, KeyError, TypeError):
        return ""
    return str(run)


def _require_same_run(known: Run, request: HelloRequest) -> None:
    if (known.study, known.server) != (request.study, request.server):
        raise ProtocolError(
            "The run id belongs to another study or server.",
            remedy="The server must draw a new one.",
        )
