"""Default plans of classifiers: which sums each estimator makes, and their shares of the budget.

Training and evaluation count different customers, so each side has the whole budget (`sides`):
training shares add up to 1, and so does the evaluation's. A study may plan less for its
evaluation; what is left pays for a second attempt at it. With folds each customer is in trainings
and in an evaluation, so all shares add up to 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from kesit_privacy import accounting
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import BudgetError, StudyError
from kesit_privacy.features import Categorical
from kesit_privacy.study import LARGEST_EPSILON, Classification, PlanStep, Study
from kesit_privacy.target import MAX_CLASSES
from kesit_privacy.training import (
    LARGEST_STEP,
    NOISE_PARTS,
    TRAINED,
    WANDERING,
    Training,
    least_noise,
)

LABELS = PlanStep("labels", "label-histograms", 0.3)
MOMENTS = PlanStep("moments", "score-moments", 0.1)
EVALUATION = PlanStep("evaluation", "score-evaluation", 1.0)
ADDITIVE_PLAN = (
    LABELS,
    MOMENTS,
    PlanStep("residuals-1", "residual-sums", 0.3),
    PlanStep("residuals-2", "residual-sums", 0.3),
    EVALUATION,
)
LOGISTIC_PLAN = (
    PlanStep("second-moments", "second-moments", 0.6),
    PlanStep("gradients-1", "gradient-sums", 0.2),
    PlanStep("gradients-2", "gradient-sums", 0.2),
    EVALUATION,
)
NEURAL_PLAN = (PlanStep("labels", "label-histograms", 1.0), EVALUATION)
"""With the trainings between them, at a share of 0."""

PLANS = {"additive": ADDITIVE_PLAN, "logistic": LOGISTIC_PLAN, "released": (EVALUATION,)}

EVALUATED = Fraction(1, 10)
"""Share of a study's budget for the evaluations of its folds, together."""

CORRECTIONS = ("residual-sums", "gradient-sums")

SMALLEST_SNR = {"logistic": 10.0, "additive": 30.0, "released": 100.0}
"""Below it an estimator guesses, and the study is refused. At it, of 16 runs on each of five
targets at most one a target had an AUC of 0.5 or less. On a sixth, where one in nine is positive,
ten and three had; there it takes 45 and more. An evaluation alone has no features to tell apart:
its ratio is customers over the noise on one count. At 100 that noise by itself moves the AUC by
about 0.02 (standard deviation) for classes of one size, and by 0.07 where one in ten is positive.
"""

ADDITIVE_SNR = 400.0
"""Above it shapes tell more than lines and bends. Where the two estimators' AUC cross differs from
table to table; above 400 logistic regression is seldom ahead, and by little, and where shapes are
needed it is far behind (decision 0021)."""


def settled(study: Study) -> Study:
    """The study with `auto` replaced by the estimator that its size calls for."""
    task = study.classifying
    if task.estimator == "neural":
        return replace(study, classification=replace(task, training=_trained(study)))
    if task.estimator != "auto":
        return study
    return replace(study, classification=replace(task, estimator=_estimator(study)))


def _trained(study: Study) -> Training:
    """The study's training, completed: its batch, and the least noise that its pot pays for.

    Raises:
        StudyError: m > 1, an L1 penalty, or more noise would be needed than the study says.
        BudgetError: no noise would be enough.
    """
    if study.max_clients_per_customer > 1:
        raise StudyError(
            "max_clients_per_customer",
            "a customer of several members would enter several trainings; DP-SGD here answers for"
            " one.",
            remedy='Use estimator = "additive" or "logistic", or agree on customers of one member.',
        )
    if study.classifying.l1:
        raise StudyError(
            "classification.l1",
            "a neural network has no points of single features that could leave it.",
            remedy='Leave it out, or use estimator = "additive" or "logistic".',
        )
    table = study.classifying.training or Training()
    counted = study.declared_customers * (1 - study.classifying.holdout)
    batch = max(1, round(table.rate * counted / study.roster.min_size))
    epsilon, delta = (float(Fraction(repr(x)) * table.exact_share) for x in _promised(study))
    least = least_noise(epsilon, delta, table.rate, table.steps * table.rounds)
    noise = least if table.noise_multiplier is None else table.noise_multiplier
    if noise < least or round(noise * NOISE_PARTS) != noise * NOISE_PARTS:
        raise StudyError(
            "classification.training.noise_multiplier",
            f"{noise:g} is less than the {least:g} that ε = {epsilon:g} needs for {table.rounds}"
            f" rounds of {table.steps} steps, or finer than thousandths.",
            remedy=f"Leave it out, or choose {least:g} or more; or train for fewer steps.",
        )
    table = replace(table, batch=table.batch or batch, noise_multiplier=noise)
    if table.learning_rate is None:
        table = replace(table, learning_rate=_step(table, study.roster.min_size))
    return table


def _step(table: Training, members: int) -> float:
    """The learning rate at which noise moves the averaged weights by `WANDERING` in all.

    A step moves them by rate·clip·noise/batch times the noise of all members, divided by members;
    in three digits, so that no rounding of another machine makes another study.
    """
    assert table.batch is not None
    assert table.noise_multiplier is not None
    steps = table.steps * table.rounds
    wander = table.clip * table.noise_multiplier / table.batch * math.sqrt(steps / members)
    return min(LARGEST_STEP, float(f"{WANDERING / wander:.3g}"))


def _promised(study: Study) -> tuple[float, float]:
    return study.epsilon, study.delta


def default_plan(study: Study) -> tuple[PlanStep, ...]:
    """The sums of this study's estimator. Training shares add up to 1; with folds all of them."""
    training, folds = study.training, study.classifying.folds
    if training is not None:
        rounds = (PlanStep(f"train-{n + 1}", TRAINED, 0) for n in range(training.rounds))
        return (*NEURAL_PLAN[:1], *rounds, *NEURAL_PLAN[1:])
    plan = PLANS[study.classifying.estimator]
    return plan if folds is None else _repeated(plan, folds)


def _repeated(plan: tuple[PlanStep, ...], folds: int) -> tuple[PlanStep, ...]:
    """A plan for each fold, all trainings first: a model that is paid does not wait for figures.

    Shares are whole millionths, so that they add up to 1 exactly; the last has the remainder.
    """
    fair = (1 - EVALUATED) / folds
    trainings = [
        PlanStep(step.step + suffix(fold), step.query, _millionths(step.exact_share * fair))
        for fold in range(folds)
        for step in plan[:-1]
    ]
    each = _millionths(EVALUATED / folds)
    names = [EVALUATION.step + suffix(fold) for fold in range(folds)]
    evaluations = [PlanStep(name, EVALUATION.query, each) for name in names]
    left = 1 - sum(step.exact_share for step in (*trainings, *evaluations[:-1]))
    return (*trainings, *evaluations[:-1], replace(evaluations[-1], share=float(left)))


def _millionths(share: Fraction) -> float:
    return int(share * 10**6) / 10**6


def suffix(fold: int) -> str:
    """What the names of a fold's steps end with; folds are told from 1 on."""
    return f"-f{fold + 1}"


def rounds(study: Study, ending: str = "") -> tuple[str, ...]:
    """Names of the plan's sums of what a model gets wrong, in order; with folds, of one of them.

    Args:
        ending: the fold's suffix, which the names come without.
    """
    return tuple(
        step.step.removesuffix(ending)
        for step in study.plan
        if step.query in CORRECTIONS and step.step.endswith(ending)
    )


def trainings(study: Study) -> tuple[str, ...]:
    """Names of the plan's trainings, in order."""
    return tuple(step.step for step in study.plan if step.query == TRAINED)


def _estimator(study: Study) -> Literal["additive", "logistic"]:
    """Logistic regression until there are customers, or budget, enough for shapes."""
    if study.classifying.keep is not None:  # only an additive model leaves features out
        return "additive"
    return "additive" if signal_to_noise(study) >= ADDITIVE_SNR else "logistic"


def check_target(study: Study) -> None:
    """Refuse a target from which no classifier can learn.

    Raises:
        StudyError: none, no list of levels, too many of them, or a `positive` that is none.
    """
    target = next((f for f in study.features if f.name == study.target), None)
    levels = [f.name for f in study.features if isinstance(f, Categorical)]
    if target is None or not isinstance(target, Categorical):
        raise StudyError(
            "target",
            "a classifier needs a categorical feature of the study to predict.",
            remedy=f"Name one of: {', '.join(levels) or '(add one with its levels)'}.",
        )
    if len(target.levels) > MAX_CLASSES:
        raise StudyError(
            "target",
            f"{target.name} has {len(target.levels)} levels, more than {MAX_CLASSES}.",
            remedy="Merge rare levels in the source.",
        )
    if study.target in (*study.chosen, *study.protected):
        raise StudyError(
            "target",
            f"{study.target} would predict itself, or is protected.",
            remedy="Leave it out of classification.features and of protected.",
        )
    positive = study.classifying.positive
    if positive is not None and (len(target.levels) != 2 or positive not in target.levels):
        raise StudyError(
            "classification.positive",
            f"{positive!r} is not one of the two levels of {target.name}.",
            remedy=f"Choose one of: {', '.join(target.levels)}; leave it out for more than two.",
        )
    if study.classifying.threshold is not None and len(target.levels) != 2:
        raise StudyError(
            "classification.threshold",
            f"{target.name} has {len(target.levels)} levels, and the likeliest is predicted.",
            remedy="Leave it out: a threshold is for a target of two levels.",
        )
    _check_arms(study, target)
    _check_released(study)
    if study.classifying.folds is not None and study.classifying.estimator == "neural":
        raise StudyError(
            "classification.folds",
            "a neural network is trained once: a mean of several networks is none.",
            remedy='Leave folds out, or use estimator = "additive" or "logistic".',
        )
    if study.classifying.keep is not None and study.classifying.estimator not in (
        "additive",
        "auto",
    ):
        raise StudyError(
            "classification.keep",
            f"the estimator {study.classifying.estimator!r} has no sum from which to choose.",
            remedy='Use estimator = "additive", or name the features to use in'
            " classification.features.",
        )


def _check_released(study: Study) -> None:
    task = study.classifying
    if task.trains != (task.released is None):
        raise StudyError(
            "classification.released",
            "is the model that is evaluated, and this study trains one."
            if task.trains
            else "is missing: members must agree on the model that is evaluated.",
            remedy='Leave it out, or use estimator = "released".'
            if task.trains
            else "Give the SHA-256 of its model.json, 64 hex digits (`sha256sum model.json`).",
        )
    if task.trains:
        return
    for field, given in (("keep", task.keep), ("l1", task.l1), ("folds", task.folds)):
        if given:
            raise StudyError(
                f"classification.{field}",
                "is about a training, and a released model is not trained again.",
                remedy="Leave it out.",
            )


def _check_arms(study: Study, target: Categorical) -> None:
    arms = study.classifying.arms
    if arms is None:
        return
    found = next((f for f in study.features if f.name == arms), None)
    if not isinstance(found, Categorical) or arms == study.target or arms in study.chosen:
        raise StudyError(
            "classification.arms",
            f"{arms!r} is no list of levels, or is the target or a feature of the model.",
            remedy="Name a categorical feature that says who was treated, the control level first.",
        )
    if len(target.levels) != 2:
        raise StudyError(
            "classification.arms",
            f"an outcome of {len(target.levels)} levels has no one rate to compare between arms.",
            remedy="Use a target of two levels, or leave arms out.",
        )


def signal_to_noise(study: Study, mu2_units: int | None = None) -> float:
    """n / (σ1·√d·√C): training customers over the noise of the whole budget on one cell's count.

    C = 1 for two classes, else their number: each class is a question of its own. With folds it is
    that of one fold's training: its customers, and its part of the budget. Of an evaluation alone
    d is the number of arms, whose noise adds up, and all customers count.
    """
    if not study.classifying.trains:
        return _evaluated_to_noise(study, mu2_units)
    units = _learning_units(study) if mu2_units is None else mu2_units
    folds, left_out = study.classifying.folds, study.classifying.holdout
    if folds is not None:
        units, left_out = int(units * (1 - EVALUATED) / folds), 1 / folds
    rules = study.roster
    federated = math.sqrt(rules.min_size / (rules.min_size - rules.max_colluders))
    if study.training is not None:  # each member's training has all of the noise
        federated = math.sqrt(rules.min_size)
    unit_noise = study.max_clients_per_customer * federated
    target = next(f for f in study.features if f.name == study.target)
    assert isinstance(target, Categorical)
    questions = 1 if len(target.levels) == 2 else len(target.levels)
    spread = math.sqrt(len(Embedding.of(study).features) * questions)
    counted = study.declared_customers * (1 - left_out)
    return counted * accounting.mu(units) / (unit_noise * spread)


def _evaluated_to_noise(study: Study, mu2_units: int | None) -> float:
    """Customers over the noise on one cell's count of all arms, in an evaluation alone."""
    units, rules = study.mu2_units if mu2_units is None else mu2_units, study.roster
    federated = math.sqrt(rules.min_size / (rules.min_size - rules.max_colluders))
    levels = {f.name: len(f.levels) for f in study.features if isinstance(f, Categorical)}
    classes, arms = levels[study.target or ""], levels.get(study.classifying.arms or "", 1)
    spread = math.sqrt(arms * (1 if classes == 2 else classes))
    noise = study.max_clients_per_customer * federated * spread
    return study.declared_customers * accounting.mu(units) / noise


def _learning_units(study: Study) -> int:
    """μ² of what learns: of the sums, or of a Gaussian that would cost as much as trainings."""
    if study.pot is None:
        return study.mu2_units
    return accounting.budget_units(study.pot.epsilon, study.pot.delta)


def smallest_snr(study: Study) -> float:
    """The signal-to-noise ratio below which the study's estimator guesses."""
    return SMALLEST_SNR.get(study.classifying.estimator, SMALLEST_SNR["additive"])


def check_budget(study: Study) -> None:
    """Refuse a study whose budget cannot tell classes apart, and say what would do.

    Raises:
        BudgetError: signal-to-noise below `smallest_snr`.
    """
    snr, needed = signal_to_noise(study), smallest_snr(study)
    if snr >= needed:
        return
    many = f"about {study.declared_customers:,} customers"
    what = f"to evaluate a model of {study.target} on {many}"
    if study.classifying.trains:
        features = len(Embedding.of(study).features)
        what = f"to learn {study.target} from {many} with {features} features"
    raise BudgetError(
        f"epsilon = {study.epsilon:g} is too small {what}"
        f" (signal-to-noise {snr:.2g}, needed {needed:g}).",
        remedy=_what_would_do(study, snr),
    )


def _what_would_do(study: Study, snr: float) -> str:
    """The smallest ε in hundredths with which `check_budget` agrees, and what else may help."""
    at_mu_1 = signal_to_noise(study, accounting.UNITS_PER_MU2)
    units = math.ceil(accounting.UNITS_PER_MU2 * (smallest_snr(study) / at_mu_1) ** 2)
    share = float(study.training.exact_share) if study.training else 1.0
    enough = accounting.epsilon(units, study.delta * share) / share
    epsilon = math.ceil(enough * (1 + 1e-8) * 100) / 100
    advice = [f"epsilon >= {epsilon:g}"] if epsilon <= LARGEST_EPSILON else []
    if not study.classifying.trains:
        agree = f"Agree on {advice[0]}; or b" if advice else "B"
        return f"{agree}ring more customers together."
    if study.classifying.estimator != "logistic" and snr >= SMALLEST_SNR["logistic"]:
        advice.append('estimator = "logistic", which needs less')
    if study.classifying.folds is not None:
        advice.append("fewer folds or none")
    advice.append("fewer features")
    return f"Agree on {', on '.join(advice)}; or bring more customers together."


__all__ = ["ADDITIVE_PLAN", "EVALUATION", "Classification", "check_budget", "check_target"]
