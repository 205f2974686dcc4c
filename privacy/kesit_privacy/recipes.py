"""Default plans: which sums a study makes, and their shares of the budget.

The plan is part of the study and of its hash; a client answers no step that is not in it.
"""

from __future__ import annotations

import math

from kesit_privacy import accounting, classifier_recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import BudgetError, StudyError
from kesit_privacy.features import Numeric
from kesit_privacy.queries.base import MAX_LENGTH
from kesit_privacy.study import LARGEST_EPSILON, PlanStep, Study

GRID_DIMENSIONS = 3
SMALLEST_SNR = 2.0
"""Below this signal-to-noise ratio centres are mostly noise: the study is refused."""

ROUNDS_SNR = 10.0
"""Below this ratio finding the segments is harder than placing them: budget moves from the Lloyd
sums to the synopsis (all of it for a grid, one sum of two for a codebook)."""

EVALUATION = PlanStep("evaluation", "evaluation", 0.08)
GRID_PLAN = (
    PlanStep("grid", "grid", 0.46),
    PlanStep("lloyd-1", "cluster-sums", 0.23),
    PlanStep("lloyd-2", "cluster-sums", 0.23),
    EVALUATION,
)
GRID_ALONE_PLAN = (PlanStep("grid", "grid", 0.92), EVALUATION)
CODEBOOK_PLAN = (
    PlanStep("marginals", "marginals", 0.14),
    PlanStep("cells-1", "cluster-sums", 0.2),
    PlanStep("cells-2", "cluster-sums", 0.2),
    PlanStep("lloyd-1", "cluster-sums", 0.19),
    PlanStep("lloyd-2", "cluster-sums", 0.19),
    EVALUATION,
)
DEEP_CODEBOOK_PLAN = (
    PlanStep("marginals", "marginals", 0.14),
    PlanStep("cells-1", "cluster-sums", 0.18),
    PlanStep("cells-2", "cluster-sums", 0.18),
    PlanStep("cells-3", "cluster-sums", 0.18),
    PlanStep("lloyd-1", "cluster-sums", 0.24),
    EVALUATION,
)


def default_plan(study: Study) -> tuple[PlanStep, ...]:
    """The sums of this study's recipe. Their shares add up to 1."""
    if study.classification is not None:
        return classifier_recipes.default_plan(study)
    clear = signal_to_noise(study) >= ROUNDS_SNR
    if uses_grid(Embedding.of(study)):
        return GRID_PLAN if clear else GRID_ALONE_PLAN
    return CODEBOOK_PLAN if clear else DEEP_CODEBOOK_PLAN


def levels(study: Study) -> tuple[str, ...]:
    """Names of the plan's codebook levels, in order."""
    return tuple(step.step for step in study.plan if step.step.startswith("cells-"))


def rounds(study: Study) -> tuple[str, ...]:
    """Names of the plan's Lloyd sums, in order."""
    return tuple(step.step for step in study.plan if step.step.startswith("lloyd-"))


def uses_grid(embedding: Embedding) -> bool:
    """Whether one joint grid can start the study: at most three features, all numeric."""
    numeric = all(isinstance(feature, Numeric) for feature in embedding.features)
    return numeric and len(embedding.features) <= GRID_DIMENSIONS


def complete(study: Study) -> tuple[PlanStep, ...]:
    """The study's plan: the one it gives, checked, or the default of its recipe.

    Raises:
        StudyError: a name that points nowhere, or a plan that the recipe cannot follow.
    """
    if study.delta * study.declared_customers >= 1:
        raise StudyError(
            "delta",
            f"{study.delta:g} is no promise for {study.declared_customers:,} customers:"
            " publishing one of them at random would keep it.",
            remedy=f"Choose delta well below {1 / study.declared_customers:.1g}.",
        )
    check_names(study)
    if study.segmentation is not None:
        _check_segments(study)
        _check_width(study)
    else:
        classifier_recipes.check_target(study)
    default = default_plan(study)
    if not study.plan:
        return default
    given = {step.step: step.query for step in study.plan}
    needed = {step.step: step.query for step in default}
    if given != needed:
        listed = ", ".join(f"{step} ({query})" for step, query in needed.items())
        raise StudyError(
            "plan",
            "the steps are not those of this study's recipe.",
            remedy=f"Give a share to each of: {listed}; or leave [[plan]] out for the defaults.",
        )
    return tuple(next(s for s in study.plan if s.step == step.step) for step in default)


def _check_width(study: Study) -> None:
    """Every sum around k centres must fit in a vector, or members would refuse it half-way."""
    dimensions = Embedding.of(study).dimensions
    most = MAX_LENGTH // (1 + dimensions)
    if study.segmenting.k > most:
        raise StudyError(
            "segmentation.k",
            f"{study.segmenting.k} segments in {dimensions:,} coordinates (a level is one) are"
            " more numbers than a sum may have.",
            remedy=f"Choose k <= {most}, or features with fewer levels.",
        )


def signal_to_noise(study: Study, mu2_units: int | None = None) -> float:
    """n / (σ1·k·√d): σ1 is the noise of the whole budget spent on one sum, federated.

    Members add shares of variance σ²/(n-c), so the opened noise is √(n/(n-c)) times the charged
    one; the smallest roster is the worst case.
    """
    units = study.mu2_units if mu2_units is None else mu2_units
    rules = study.roster
    federated = math.sqrt(rules.min_size / (rules.min_size - rules.max_colluders))
    unit_noise = study.max_clients_per_customer * federated  # σ1·μ: 0 units are infinite noise
    spread = study.segmenting.k * math.sqrt(len(Embedding.of(study).features))
    return study.declared_customers * accounting.mu(units) / (unit_noise * spread)


def signal(study: Study) -> tuple[float, float]:
    """The study's signal-to-noise ratio, and the one below which it is refused."""
    if study.classification is not None:
        return classifier_recipes.signal_to_noise(study), classifier_recipes.smallest_snr(study)
    return signal_to_noise(study), SMALLEST_SNR


def check_budget(study: Study) -> None:
    """Refuse a study whose budget cannot find its segments, and say what would do.

    Raises:
        BudgetError: signal-to-noise below `SMALLEST_SNR`.
    """
    if study.classification is not None:
        classifier_recipes.check_budget(study)
        return
    snr = signal_to_noise(study)
    if snr >= SMALLEST_SNR:
        return
    features = len(Embedding.of(study).features)
    raise BudgetError(
        f"epsilon = {study.epsilon:g} is too small for k = {study.segmenting.k} segments of about"
        f" {study.declared_customers:,} customers with {features} features"
        f" (signal-to-noise {snr:.2g}, needed {SMALLEST_SNR:g}).",
        remedy=_what_would_do(study, snr),
    )


def _what_would_do(study: Study, snr: float) -> str:
    """The smallest ε in hundredths, and the largest k, with which `check_budget` agrees."""
    at_mu_1 = signal_to_noise(study, accounting.UNITS_PER_MU2)
    units = math.ceil(accounting.UNITS_PER_MU2 * (SMALLEST_SNR / at_mu_1) ** 2)
    # Budgets are rounded down by about 1e-9: an ε that is exactly enough would not be.
    epsilon = math.ceil(accounting.epsilon(units, study.delta) * (1 + 1e-8) * 100) / 100
    fewer = math.floor(study.segmenting.k * snr / SMALLEST_SNR)
    advice = [f"epsilon >= {epsilon:g}"] if epsilon <= LARGEST_EPSILON else []
    advice += [f"k <= {fewer}"] if fewer >= (study.segmenting.smallest_k or 2) else []
    if not advice:
        return "Bring more customers together, or use fewer features."
    return f"Agree on {', or on '.join(advice)}."


def check_names(study: Study) -> None:
    """Refuse names of features that the study does not have.

    Raises:
        StudyError: such a name, one that stands twice, or no feature that may be used.
    """
    known = {feature.name for feature in study.features}
    table = "segmentation" if study.segmentation else "classification"
    places = [(f"{table}.features", name) for name in study.chosen]
    places += [("protected", name) for name in study.protected]
    places += [("target", study.target)] if study.target else []
    for field, name in places:
        if name not in known:
            raise StudyError(
                field,
                f"names {name!r}, which is no feature of the study.",
                remedy=f"Use one of: {', '.join(sorted(known))}.",
            )
    if len(set(study.chosen)) != len(study.chosen):
        raise StudyError(
            f"{table}.features", "names a feature twice.", remedy="Name each feature once."
        )
    if not Embedding.of(study).features:
        raise StudyError(
            f"{table}.features",
            "is empty: every feature is protected or the target.",
            remedy="Name the features that may be used.",
        )


def _check_segments(study: Study) -> None:
    if study.segmenting.k * study.thresholds.min_segment_size > study.declared_customers:
        raise StudyError(
            "segmentation.k",
            f"{study.segmenting.k} segments of at least {study.thresholds.min_segment_size}"
            f" do not fit in {study.declared_customers:,} customers.",
            remedy="Choose a smaller k, or a smaller thresholds.min_segment_size.",
        )
