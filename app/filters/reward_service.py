"""The rules of reward models: what one can be trained from, and when it can be asked."""

from typing import Any

from sqlalchemy.orm import Session

from app.errors import Unprocessable
from app.filters import repository
from app.filters.reward_schemas import NewRewardModel, RewardModelObject
from app.filters.service import file_to_learn, queue, told
from app.models import LearnedFilter
from app.training.configs import FORBIDDEN, named_model
from trainer.config import ConfigError, parse_config


def create_reward_model(session: Session, body: NewRewardModel) -> LearnedFilter:
    """Records a reward model and its training, which waits in the queue of fine-tunes.

    Raises:
        Unprocessable: no such file or base, a file without preferences, settings out of bounds; `param` names which.
    """
    file = file_to_learn(session, body.file, "preferences")
    config = _config(session, body)
    request = {"base": body.base, "holdout": body.holdout, "trainer": body.trainer, "config": config}
    return queue(session, repository.REWARD_MODEL, body.name, file.id, request)


def _config(session: Session, body: NewRewardModel) -> dict[str, Any]:
    """The trainer's settings, but for where the preferences and a named base lie."""
    for part, field in FORBIDDEN:
        if isinstance(body.trainer.get(part), dict) and field in body.trainer[part]:
            raise Unprocessable(f"trainer.{part}.{field}: is the service's to set", param=f"trainer.{part}.{field}")
    for part, value in body.trainer.items():
        if not isinstance(value, dict):
            raise Unprocessable(f"trainer.{part}: must be an object", param=f"trainer.{part}")
    model = named_model(session, body.base, body.trainer.get("model", {}), param="base")
    data = {"validation_share": body.holdout, **body.trainer.get("data", {})}
    config = {**body.trainer, "objective": "reward", "model": model, "data": data}
    try:
        parse_config({**config, "data": {**data, "preferences": "preferences"}})
    except ConfigError as error:
        message = str(error)
        raise Unprocessable(f"trainer.{message}", param=f"trainer.{message.split(':', maxsplit=1)[0]}") from None
    return config


def show_reward_model(row: LearnedFilter, used_by: list[str] | None = None) -> RewardModelObject:
    """The reward model as the API tells it."""
    return RewardModelObject(**told(row, used_by), base=row.request["base"], trainer=row.request["trainer"])
