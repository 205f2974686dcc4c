"""One simulated run, from coded customers to a result folder and what people read of it.

Heavy packages are imported inside functions, so that `kesit --help` answers at once.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kesit_cli import models, show
from kesit_cli.progress import Progress

if TYPE_CHECKING:
    from kesit_privacy.study import Study
    from kesit_server.analysis import Finding
    from kesit_server.classification.judging.released import Released
    from kesit_simulations.evaluation import Evaluation
    from kesit_simulations.model_evaluation import ModelEvaluation
    from kesit_simulations.plan import SimulationPlan
    from kesit_simulations.runner import Customers, SimulationResult

SIMULATION = "simulation.json"


@dataclass(frozen=True)
class Finished:
    """A run that is over, and the folder that holds its result."""

    study: Study
    plan: SimulationPlan
    clients: int
    result: SimulationResult
    evaluation: Evaluation | ModelEvaluation | None
    folder: Path

    @property
    def statement(self) -> dict[str, Any]:
        """The privacy statement."""
        from kesit_server.statement import privacy_statement

        return privacy_statement(self.result.federation)

    @property
    def traffic(self) -> dict[str, float]:
        """Messages to, and bytes to and from, each client on average."""
        courier = self.result.federation.courier
        return {
            "messages": round(courier.messages / self.clients, 1),
            "bytes_received": round(courier.bytes_sent / self.clients),
            "bytes_sent": round(courier.bytes_received / self.clients),
        }


def execute(
    study: Study,
    plan: SimulationPlan,
    customers: Customers,
    out: Path | None,
    base: str,
    progress: Progress,
    *,
    evaluate: bool = True,
    released: Released | None = None,
) -> Finished:
    """Run a study, evaluate it, and write the result folder: whole or not at all.

    Args:
        out: the folder; None chooses one in `base` by the study's name and the run's id.
        released: the model that is evaluated, for a study that trains none.

    Raises:
        KesitError: the run failed or the folder cannot be written; then nothing is.
    """
    from kesit_privacy.files import slug
    from kesit_server import results
    from kesit_simulations.runner import Watcher, simulate

    result = simulate(study, plan, customers, Watcher(progress.event, progress.reply), released)
    evaluation = None
    if evaluate:
        progress.event("evaluation: the same without privacy, for comparison")
        evaluation = _compare(result.found, plan, customers)
    progress.event("cards: what is told of the result, and how sure it is")
    name = f"{slug(study.name)}-{result.federation.run[:8]}"
    folder = out or Path(base) / name
    finished = Finished(study, plan, len(customers.parts), result, evaluation, folder)
    files = {**result.files, SIMULATION: results.as_json(_costs(finished))}
    results.write_folder(finished.folder, files)
    return finished


def check_place(folder: Path) -> None:
    """Refuse, before a run, a folder in which no result could be written.

    Raises:
        ResultError: it holds something, or lies where nothing can be written.
    """
    from kesit_server import results
    from kesit_server.errors import ResultError

    results.check_free(folder)
    above = next(place for place in folder.absolute().parents if place.exists())
    try:
        Path(tempfile.mkdtemp(prefix=".kesit-", dir=above)).rmdir()
    except OSError as error:
        raise ResultError(
            f"{folder}: nothing can be written in {above} ({error.strerror}).",
            remedy="Give another --out.",
        ) from error


def summary(finished: Finished) -> dict[str, Any]:
    """What scripts read of a run."""
    statement = finished.statement
    kept = ("study", "study_hash", "run", "releasable", "caveats", "epsilon_spent", "delta")
    return {
        **{name: statement[name] for name in kept},
        **_told(finished.result),
        **_costs(finished),
        "folder": str(finished.folder),
    }


def print_result(out: Console, finished: Finished) -> None:
    """Segments, privacy statement, evaluation, cost and folder."""
    out.print()
    if finished.study.classification is None:
        show.print_segments(out, finished.result.portrait)
    elif finished.study.classification.trains:
        models.print_model(out, finished.result.card)
    else:
        models.print_evaluation(out, finished.result.evaluated)
    out.print()
    show.print_facts(out, closing_facts(finished))


def closing_facts(finished: Finished) -> list[tuple[str, str]]:
    """What stands under the segments."""
    traffic = finished.traffic
    files = ", ".join(sorted([*finished.result.files, SIMULATION]))
    facts = [("Privacy", show.privacy_text(finished.statement))]
    if finished.evaluation is not None:
        facts.append(("Quality", finished.evaluation.text()))
    facts.append(
        (
            "Cost",
            f"{finished.result.seconds:.1f} s in all; a client answered {traffic['messages']:g}"
            f" messages, received {traffic['bytes_received'] / 1000:,.1f} kB and sent"
            f" {traffic['bytes_sent'] / 1000:,.1f} kB.",
        )
    )
    facts.append(("Result", f"{finished.folder}\n{files}"))
    return facts


def _compare(
    found: Finding, plan: SimulationPlan, customers: Customers
) -> Evaluation | ModelEvaluation | None:
    from kesit_server.classification.evaluated import Evaluated
    from kesit_server.segmentation.segmenter import Segmentation
    from kesit_simulations.evaluation import evaluate
    from kesit_simulations.model_evaluation import evaluate_model

    if isinstance(found, Segmentation):
        return evaluate(found, customers.codes, customers.labels, seed=plan.seed)
    if isinstance(found, Evaluated):
        return None  # there is no training to compare with
    return evaluate_model(found, customers.codes)


def _told(result: SimulationResult) -> dict[str, Any]:
    task = result.found.study.classification
    if task is None:
        return {"segments": [card.as_dict() for card in result.portrait.cards]}
    if not task.trains:
        return {"judged": result.told.as_dict()["evaluation"]}
    judged = result.classifier.judged
    return {
        "importances": result.card.importances,
        "judged": None if judged is None else judged.evaluation.as_dict(),
        "doubts": [words.en for words in result.card.doubts],
    }


def _costs(finished: Finished) -> dict[str, Any]:
    evaluation = finished.evaluation
    return {
        "kesit": version("kesit"),
        "simulation": asdict(finished.plan),
        "seconds": round(finished.result.seconds, 3),
        "clients": finished.clients,
        "per_client": finished.traffic,
        "evaluation": None if evaluation is None else evaluation.as_dict(),
    }
