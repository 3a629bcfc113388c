"""From a request to the trainer's settings: what names a path or a machine is the service's to set, versions have ids.

`Job.config` is what comes out: a TrainConfig whose base, validation and mixed versions are named, not located. The
worker puts paths in their place.
"""

import os
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.datasets.repository import get_version
from app.errors import NotFound, Unprocessable
from app.models import Version
from app.settings import get_settings
from app.training import repository
from app.training.schemas import Hyperparameters, NewJob
from trainer.config import PEAK_LR, PRESETS, ConfigError, TrainConfig, parse_config

FORBIDDEN = (
    ("model", "base"), ("data", "version"), ("data", "preferences"), ("data", "validation"), ("data", "cache_dir"),
    ("run", "nnodes"),
)  # fmt: skip
"""Settings that name a path or a machine are the service's to make."""
SCRATCH = "scratch:"


def make_config(session: Session, body: NewJob) -> dict[str, Any]:
    """The trainer's settings: the model, OpenAI's hyperparameters, and above them the request's `trainer`.

    Raises:
        Unprocessable: a setting that is not the user's, or that makes no sense; `param` names it.
    """
    for part, field in FORBIDDEN:
        if isinstance(body.trainer.get(part), dict) and field in body.trainer[part]:
            raise Unprocessable(f"trainer.{part}.{field}: is the service's to set", param=f"trainer.{part}.{field}")
    config: dict[str, Any] = {}
    for part, value in body.trainer.items():
        if not isinstance(value, dict):
            raise Unprocessable(f"trainer.{part}: must be an object", param=f"trainer.{part}")
        config[part] = dict(value)
    config["model"] = named_model(session, body.model, config.get("model", {}))
    hyperparameters = hyperparameters_of(body.model_dump())
    run, optim = config.setdefault("run", {}), config.setdefault("optim", {})
    if hyperparameters.n_epochs != "auto":
        run.setdefault("epochs", hyperparameters.n_epochs)
    if hyperparameters.batch_size != "auto":
        config.setdefault("batch", {}).setdefault("conversations", hyperparameters.batch_size)
    if hyperparameters.learning_rate_multiplier != "auto":
        kind = (
            "scratch" if "scratch" in config["model"] else "lora" if config["model"].get("lora") is not None else "base"
        )
        default = PEAK_LR[kind]
        optim.setdefault("peak_lr", default * hyperparameters.learning_rate_multiplier)
    if body.seed is not None:
        run.setdefault("seed", body.seed)
    return config


def check_config(config: dict[str, Any], version: Version, others: dict[str, Version]) -> TrainConfig:
    """Checks the settings as the trainer will, and the lengths against the bounds of every version that is learned.

    Raises:
        Unprocessable: `param` names the setting.
    """
    try:
        checked = parse_config({**config, "data": {**config.get("data", {}), "version": "manifest.json"}})
    except ConfigError as error:
        message = str(error)
        raise Unprocessable(f"trainer.{message}", param=f"trainer.{message.split(':', maxsplit=1)[0]}") from None
    for one in (version, *others.values()):
        bounds: dict[str, Any] = next((op for op in one.recipe["operators"] if op["kind"] == "truncate_history"), {})
        for name in ("max_source_length", "max_target_length"):
            wanted = getattr(checked.data, name)
            if wanted > bounds.get(name, wanted):
                whose = "the version" if one is version else one.id
                detail = f"trainer.data.{name}: {whose} was truncated to {bounds[name]}, {wanted} is beyond it"
                raise Unprocessable(detail, param=f"trainer.data.{name}")
    return checked


def mixed_versions(session: Session, config: dict[str, Any]) -> dict[str, Version]:
    """The versions that `data.mix` names, by id.

    Raises:
        Unprocessable: one is unknown or has not succeeded; `param` names its place.
    """
    mix = config.get("data", {}).get("mix")
    found: dict[str, Version] = {}
    for index, source in enumerate(mix if isinstance(mix, list) else []):
        name = source.get("version") if isinstance(source, dict) else None
        if not isinstance(name, str):
            continue  # for the trainer's own check
        param = f"trainer.data.mix.{index}.version"
        try:
            found[name] = get_version(session, name)
        except NotFound:
            raise Unprocessable(f"{param}: there is no version {name[:100]}", param=param) from None
        if found[name].status != "succeeded":
            raise Unprocessable(f"{param}: the version is {found[name].status}", param=param)
    return found


def hyperparameters_of(request: dict[str, Any]) -> Hyperparameters:
    """Those of the method, else the older member's, else the defaults."""
    method = request.get("method") or {}
    given = (method.get("supervised") or {}).get("hyperparameters") if method else request.get("hyperparameters")
    return Hyperparameters(**(given or {}))


def named_model(session: Session, name: str, given: dict[str, Any], param: str = "model") -> dict[str, Any]:
    """The settings `model` of a base's name: registered, a finished fine-tune, from scratch, or an allowed folder.

    Raises:
        Unprocessable: there is no such model; `param` is the request's member that names it.
    """
    if name.startswith(SCRATCH):
        preset = name.removeprefix(SCRATCH)
        if preset not in PRESETS:
            raise Unprocessable(
                f"{param}: unknown preset, known are {', '.join(SCRATCH + p for p in PRESETS)}", param=param
            )
        sizes = given.get("scratch", {})
        if not isinstance(sizes, dict):
            raise Unprocessable("trainer.model.scratch: must be an object", param="trainer.model.scratch")
        return {**given, "scratch": {"preset": preset, **sizes}}
    if repository.model_files(session, name) is not None:
        return {**given, "base": name}
    folder = Path(os.path.realpath(name))
    allowed = [root.resolve() for root in get_settings().model_folders]
    if Path(name).is_absolute() and any(folder.is_relative_to(root) for root in allowed) and _is_model(folder):
        return {**given, "base": str(folder)}
    raise Unprocessable(
        f"{param}: neither a registered base (`talkmill models add`), nor a finished fine-tune, nor scratch:<preset>, "
        "nor an allowed folder; GET /v1/models lists them",
        param=param,
    )


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # such as a name too long
        return False
