"""The rules of experiments: a grid becomes versions and ordinary jobs, which differ in nothing else.

What all runs are compared on is made once: the conversations that none of them learns, as they came in and as each
recipe makes them, where recipes are compared.
"""

import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.datasets.repository import cancel_work
from app.errors import ApiError, Conflict, Unprocessable
from app.experiments import repository
from app.experiments.grid import LENGTHS, OPERATORS, SEEDS, SOURCE, TARGET, Point, name_in, points, put
from app.experiments.schemas import NewExperiment
from app.experiments.versions import ExperimentVersions
from app.models import FINAL, Experiment, ExperimentRun, Job, Version, new_id
from app.training.schemas import NewJob
from app.training.service import cancel_job, record_job

RATIO, STEPS_OF, MIX = "trainer.data.min_history_ratio", "trainer.batch.by", "trainer.data.mix"


def create_experiment(session: Session, body: NewExperiment) -> Experiment:
    """Records an experiment, its versions and its jobs.

    Raises:
        NotFound: the job or the evaluation names a version or file that is none.
        Unprocessable: a grid or a job that makes no sense; `param` names the grid's key or the job's field.
    """
    grid = LENGTHS if body.grid == "lengths" else body.grid
    evaluation = body.evaluation.model_dump(mode="json")
    if evaluation["equal_tokens"] is None:
        evaluation["equal_tokens"] = body.grid == "lengths"
    of_grid = points(grid)
    if body.evaluation.review_samples and len(of_grid) < 2:
        raise Unprocessable("evaluation.review_samples: one run has no other to be compared with", param="grid")
    made = ExperimentVersions(session, body)
    experiment = Experiment(
        id=new_id("exp"), name=body.name, status="queued",
        request={"job": body.job, "grid": grid, "evaluation": evaluation}, targets=[], warnings=[],
    )  # fmt: skip
    session.add(experiment)
    session.flush()
    for ordinal, point in enumerate(of_grid):
        job = _record(session, body, grid, point, made)
        session.add(
            ExperimentRun(
                experiment_id=experiment.id,
                ordinal=ordinal,
                name=name_in(grid, point.settings),
                settings=point.settings,
                budget="epochs",
                job_id=job.id,
            )
        )
    experiment.targets, experiment.warnings = made.sets(), list(made.warnings)
    session.flush()
    return experiment


def add_twin(session: Session, experiment: Experiment, run: ExperimentRun, ordinal: int, steps: int) -> None:
    """Records a run like another one that takes so many steps, to be as long in tokens as the longest."""
    old = session.get_one(Job, run.job_id)
    request = NewJob.model_validate({**old.request, "trainer": old.config})
    job = record_job(
        session, request.model_copy(update={"trainer": _with_steps(old.config, steps)}),
        session.get_one(Version, old.version_id),
        None if old.validation_version_id is None else session.get_one(Version, old.validation_version_id),
    )  # fmt: skip
    session.add(
        ExperimentRun(
            experiment_id=experiment.id,
            ordinal=ordinal,
            name=f"{run.name} (equal tokens)",
            settings=run.settings,
            budget="tokens",
            job_id=job.id,
        )
    )


def _with_steps(config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    model = {key: value for key, value in config["model"].items() if key != "base"}
    run = {key: value for key, value in config["run"].items() if key != "epochs"}
    return {**config, "model": model, "run": {**run, "max_steps": steps}}


def cancel_experiment(session: Session, experiment_id: str) -> Experiment:
    """Ends an experiment and its jobs.

    Raises:
        Conflict: it has ended already.
    """
    experiment = repository.get_experiment(session, experiment_id)
    session.refresh(experiment, with_for_update=True)
    if experiment.status in FINAL:
        raise Conflict(f"the experiment has {experiment.status} already", code="already_ended")
    for _, job in repository.runs_of(session, [experiment_id])[experiment_id]:
        if job.status not in FINAL:
            cancel_job(session, job.id)
    cancel_work(session, experiment_id)
    experiment.status, experiment.finished_at = "cancelled", time.time()
    return experiment


# ---- a point of the grid -------------------------------------------------------------------------------------------


def _record(
    session: Session, body: NewExperiment, grid: Mapping[str, Any], point: Point, made: ExperimentVersions
) -> Job:
    """Records the job of a point of the grid."""
    described = point.of_job(body.job)
    training_file = described.get("training_file")
    trainer = described.setdefault("trainer", {})
    if not isinstance(trainer, dict):
        raise Unprocessable("job.trainer: must be an object", param="job.trainer")
    data, evaluate = (trainer.setdefault(part, {}) for part in ("data", "evaluate"))
    if not (isinstance(data, dict) and isinstance(evaluate, dict)):
        raise Unprocessable("job.trainer: its parts must be objects", param="job.trainer")
    if "validation_file" in described:
        detail = "job.validation_file: what runs are compared on is named by evaluation.file"
        raise Unprocessable(detail, param="job.validation_file")
    evaluate.setdefault("bleu_samples", 0)  # replies are generated once, when all runs have ended
    if body.evaluation.holdout is not None:
        data["validation_share"] = body.evaluation.holdout
    if SOURCE in grid or TARGET in grid:
        made.warnings.update(_make_comparable(described))
    if any(key in grid for key in SEEDS):
        data.setdefault("validation_seed", body.job.get("seed") or 0)
    try:
        request = NewJob.model_validate({**described, "validation_file": None})
        version, validation = made.learned(str(training_file), point), made.validation
        request = request.model_copy(
            update={"training_file": version.id, "validation_file": validation.id if validation else None}
        )
        return record_job(session, request, version, validation)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _of_grid(".".join(map(str, first["loc"])), first["msg"], point) from None
    except Unprocessable as error:
        if error.param is not None and error.param.startswith(("grid.", "evaluation.")):
            raise
        raise _of_grid(error.param or "", error.detail.removeprefix(f"{error.param}: "), point) from None


def _make_comparable(described: dict[str, Any]) -> dict[str, None]:
    """Has runs of other lengths learn the same replies in the same steps, each after the newest of its history.

    What the job says of it stands, but for a batch in tokens; returns warnings, each once.
    """
    if _found(described, RATIO) is None:
        put(described, RATIO, 1.0)
    if _found(described, STEPS_OF) == "tokens" or _found(described, MIX):
        return {"steps count tokens, so runs of other lengths learn other replies in a step": None}
    put(described, STEPS_OF, "conversations")
    batch = described["trainer"]["batch"]
    told = [f"batch.{name}" for name in ("tokens", "ramp") if batch.pop(name, None) not in (None, "auto")]
    says = "steps count conversations (batch.conversations), so that runs of other lengths learn the same in each"
    return {f"{' and '.join(told)} of the job is not used: {says}": None} if told else {}


def _of_grid(param: str, message: str, point: Point) -> ApiError:
    """What is wrong with a job, told of the grid's key where it set the value, else of the job's field."""
    key = next((key for key in point.settings if param == key or param.startswith(f"{key}.")), None)
    if param.startswith("recipe"):  # which names the operator by its place
        of_recipe = list(point.of_recipe)
        key = next((key for key in of_recipe if key.removeprefix(OPERATORS).partition(".")[0] in message), of_recipe[0])
    if key is None:
        return Unprocessable(f"job.{param}: {message} (of the run with {point.name})", param=f"job.{param}")
    return Unprocessable(f"grid.{key}: with {point.settings[key]}: {message}", param=f"grid.{key}")


def _found(described: Mapping[str, Any], key: str) -> Any:
    inner: Any = described
    for part in key.split("."):
        inner = inner.get(part) if isinstance(inner, Mapping) else None
    return inner
