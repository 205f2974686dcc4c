"""The study: what the members agree on, as one frozen value with one hash.

Its hash covers every field that can change what is asked of customers' data, so two members whose
hashes agree hold the same study. `study_file` reads one from TOML.
"""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from kesit_privacy import accounting, canonical
from kesit_privacy.features import STRICT, Feature, Name
from kesit_privacy.processing import Processing
from kesit_privacy.sides import HELD_OUT_QUERIES, BookSide
from kesit_privacy.training import TRAINED, Training, open_pot

STUDY_FORMAT = 1
LARGEST_EPSILON = 100

LegalBasis = Literal[
    "explicit-consent",
    "law",
    "protection-of-life",
    "contract",
    "legal-obligation",
    "made-public",
    "establishment-of-right",
    "legitimate-interest",
]
"""The grounds of Law 6698, article 5(1) and 5(2)(a), (b), (c), (ç), (d), (e), (f)."""


@dataclass(frozen=True, config=STRICT)
class RosterRules:
    """Who must stand together for a sum.

    `min_size` members at least answer each sum; any `max_colluders` of them may pool what they know
    (the server included) without weakening the noise below what was charged.
    `silence_probability` is the chance that a member misses one message.
    """

    min_size: Annotated[int, Field(ge=2, le=100_000)] = 3
    max_colluders: Annotated[int, Field(ge=0, le=10_000)] = 1
    silence_probability: Annotated[float, Field(ge=0, lt=1)] = 0.002

    @model_validator(mode="after")
    def _honest_enough(self) -> RosterRules:
        if self.min_size < self.max_colluders + 2:
            raise ValueError(
                f"min_size ({self.min_size}) must be at least max_colluders + 2"
                f" ({self.max_colluders + 2}), or a sum could be one member's own"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class Segmentation:
    """k-means: number of segments, and which features it sees (all of them if empty).

    With `smallest_k` the number is chosen among smallest_k .. k, on the private synopsis.
    """

    k: Annotated[int, Field(ge=2, le=250)]
    features: tuple[Name, ...] = ()
    smallest_k: Annotated[int, Field(ge=2, le=250)] | None = None

    @model_validator(mode="after")
    def _a_range(self) -> Segmentation:
        if self.smallest_k is not None and self.smallest_k >= self.k:
            raise ValueError(
                f"smallest_k ({self.smallest_k}) must be less than k ({self.k}); leave it out for"
                f" exactly {self.k} segments"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class Classification:
    """A classifier of the study's target: which estimator, of which features (all if empty).

    Attributes:
        estimator: `additive` (a scorecard of shapes), `logistic`, `neural`, or `auto`: chosen from
            the declared size of the federation before anything is asked. `released` trains nothing
            and evaluates a model of an earlier study on everybody.
        positive: of two levels of the target, the one whose chance is told; the last if None.
        holdout: share of customers that no training sum counts, told apart by a keyed hash of
            their ids; the evaluation counts them alone.
        folds: cross-validation: F models, each of everybody but one F-th of the customers, who
            evaluate it; the result is their mean, and `holdout` is not used. Who is held out
            changes from fold to fold, so every sum is priced for everybody. None holds out once.
        split: another number holds out other customers.
        bins: cells of a numeric feature's shape.
        keep: number of features that stay in an additive model, those that tell most of the target
            by the label histograms; all of them if None. It costs nothing beside that sum.
        l1: the group lasso's penalty in logits: features whose points differ less than that between
            customers (standard deviation) leave the model. It costs nothing. How much all are
            shrunk (L2) needs no number: the released sums decide it.
        threshold: chance of the second of two classes from which it is predicted; chosen from
            the training sums if None.
        arms: a categorical feature whose levels are the arms of an A/B evaluation, the control
            first; no model sees it.
        training: of a neural network; of no other estimator.
        released: SHA-256, in hex, of the model.json that `released` evaluates; of no other.
    """

    estimator: Literal["auto", "additive", "logistic", "neural", "released"] = "auto"
    features: tuple[Name, ...] = ()
    positive: Name | None = None
    holdout: Annotated[float, Field(ge=0.05, le=0.5)] = 0.2
    folds: Annotated[int, Field(ge=2, le=10)] | None = None
    split: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    bins: Annotated[int, Field(ge=2, le=256)] = 32
    keep: Annotated[int, Field(ge=1, le=2000)] | None = None
    l1: Annotated[float, Field(ge=0, le=10)] = 0.0
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    arms: Name | None = None
    training: Training | None = None
    released: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _who_trains(self) -> Classification:
        if self.training is not None and self.estimator != "neural":
            raise ValueError('training is for estimator = "neural" alone')
        return self

    @property
    def trains(self) -> bool:
        """Whether a model is trained; else one that was released before is evaluated."""
        return self.estimator != "released"


@dataclass(frozen=True, config=STRICT)
class Thresholds:
    """What a released segment must at least hold."""

    min_segment_size: Annotated[int, Field(ge=1)] = 50


@dataclass(frozen=True, config=STRICT)
class PlanStep:
    """One sum of the plan, and the most one attempt at it may cost: a share of the study's μ².

    The share of a training is 0: it is paid from a pot of its own.
    """

    step: Name
    query: Name
    share: Annotated[float, Field(ge=0, le=1)]

    @field_validator("share")
    @classmethod
    def _paid_once(cls, share: float, info: ValidationInfo) -> float:
        if (share == 0) != (info.data.get("query") == TRAINED):
            raise ValueError(f"must be 0 for {TRAINED}, and more for any other query")
        return share

    @cached_property
    def exact_share(self) -> Fraction:
        """The share as the decimal number that stands in the file."""
        return Fraction(repr(self.share))


@dataclass(frozen=True, config=STRICT)
class Study:
    """A federated study, checked field by field. `study_file` builds one and completes its plan."""

    name: Name
    purpose: Name
    legal_basis: LegalBasis
    epsilon: Annotated[float, Field(gt=0, le=LARGEST_EPSILON)]
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    declared_customers: Annotated[int, Field(ge=1, le=10**10)]
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=2000)]
    segmentation: Segmentation | None = None
    classification: Classification | None = None
    max_clients_per_customer: Annotated[int, Field(ge=1, le=1000)] = 1
    roster: RosterRules = RosterRules()
    thresholds: Thresholds = Thresholds()
    protected: tuple[Name, ...] = ()
    target: Name | None = None
    plan: tuple[PlanStep, ...] = ()
    processing: Processing | None = None

    @model_validator(mode="after")
    def _one_task(self) -> Study:
        if (self.segmentation is None) == (self.classification is None):
            raise ValueError(
                "a study has one task: a [segmentation] table, or a [classification] table with a"
                " target"
            )
        return self

    @field_validator("features")
    @classmethod
    def _distinct_features(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        names = [feature.name for feature in features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"features are defined twice: {', '.join(twice)}")
        return features

    @field_validator("plan")
    @classmethod
    def _plan_adds_up(
        cls, plan: tuple[PlanStep, ...], info: ValidationInfo
    ) -> tuple[PlanStep, ...]:
        steps = [step.step for step in plan]
        if len(set(steps)) != len(steps):
            raise ValueError("two steps have the same name")
        task = info.data.get("classification")
        apart = [_side(task, step) is BookSide.HELD for step in plan]
        held = sum(step.exact_share for step, one in zip(plan, apart, strict=True) if one)
        total = sum(step.exact_share for step, one in zip(plan, apart, strict=True) if not one)
        if not all(apart) and total != 1:  # a plan without training is one of evaluations
            what = f"the {'training ' if held else ''}shares add up to {float(total):g}"
            raise ValueError(f"{what}; they must add up to exactly 1")
        if held > 1:
            raise ValueError(f"the evaluation's shares add up to {float(held):g}, more than 1")
        return plan

    @property
    def segmenting(self) -> Segmentation:
        """What a segmentation study wants; there is no such thing in a classifier's."""
        assert self.segmentation is not None
        return self.segmentation

    @property
    def classifying(self) -> Classification:
        """What a classifier's study wants; there is no such thing in a segmentation's."""
        assert self.classification is not None
        return self.classification

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the features that the task was given; empty for all that may be used."""
        task = self.segmentation or self.classification
        return task.features if task else ()

    @cached_property
    def canonical(self) -> bytes:
        """The bytes under the hash: canonical JSON of every field, with the format's number."""
        return canonical.encode({"kesit_study": STUDY_FORMAT, **_said(asdict(self))}, floats=True)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical`, in hex."""
        return canonical.digest(self.canonical).hex()

    @property
    def training(self) -> Training | None:
        """How members train a network, if they do."""
        return self.classification.training if self.classification else None

    @property
    def sums_epsilon(self) -> float:
        """ε of the noisy sums: all of the study's but what its pot for trainings has."""
        return self._part(self.epsilon, trained=False)

    @property
    def sums_delta(self) -> float:
        """δ of the noisy sums, likewise."""
        return self._part(self.delta, trained=False)

    @cached_property
    def pot(self) -> accounting.RdpPot | None:
        """The pot for trainings, empty; None for a study without them."""
        if self.training is None:
            return None
        epsilon, delta = (self._part(x, trained=True) for x in (self.epsilon, self.delta))
        return open_pot(epsilon, delta, self.training.event, self.training.rounds)

    def _part(self, whole: float, *, trained: bool) -> float:
        share = self.training.exact_share if self.training else Fraction(0)
        return float(Fraction(repr(whole)) * (share if trained else 1 - share))

    @cached_property
    def mu2_units(self) -> int:
        """The noisy sums' whole budget: μ² at (ε, δ), in the ledger's units, rounded down."""
        return accounting.budget_units(self.sums_epsilon, self.sums_delta)

    def step(self, name: str) -> PlanStep | None:
        """The plan's step of that name, or None."""
        return next((step for step in self.plan if step.step == name), None)

    def step_units(self, step: PlanStep) -> int:
        """The most that one attempt at `step` may cost, in the ledger's units."""
        return int(self.mu2_units * step.exact_share)

    def side(self, step: PlanStep) -> BookSide:
        """The side for which the plan prices `step`."""
        return _side(self.classification, step)


def _side(task: Classification | None, step: PlanStep) -> BookSide:
    if task is None or task.folds is not None:
        return BookSide.ALL
    return BookSide.HELD if step.query in HELD_OUT_QUERIES else BookSide.TRAIN


_TASKS = ("segmentation", "classification")
_LATER = ("folds", "training", "released")


def _said(plain: dict[str, Any]) -> dict[str, Any]:
    """The study without tags, tables, statements and newer choices of a task that nobody gave.

    They came after the first studies: one that does not use them keeps the hash that it had.
    """
    plain = {name: value for name, value in plain.items() if name not in _TASKS or value}
    if plain.get("classification"):
        unused = {name for name in _LATER if plain["classification"][name] is None}
        plain["classification"] = {
            name: value for name, value in plain["classification"].items() if name not in unused
        }
    plain["features"] = [
        {name: value for name, value in feature.items() if name != "tags" or value}
        for feature in plain["features"]
    ]
    statements = plain.pop("processing") or {}
    given = {name: value for name, value in statements.items() if value is not None}
    return {**plain, "processing": given} if given else plain
