"""What a run learns, as the four things in which the objectives differ; the loop knows nothing else of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import TrainConfig
from trainer.evaluation.evaluate import Evaluator
from trainer.export import export
from trainer.loss import LanguageModelLoss
from trainer.reward.evaluation import RewardEvaluator
from trainer.reward.model import RewardLoss, as_reward_model, export_reward_model

Export = Callable[[LanguageModelLoss, ChatTokenizer, Path], None]


@dataclass(frozen=True)
class Objective:
    """One of the settings' `objective`."""

    make_model: Callable[[PreTrainedModel, TrainConfig], PreTrainedModel]
    """What is trained, of the causal model that was built."""
    loss: type[LanguageModelLoss]
    evaluator: type[Evaluator]
    export: Export


OBJECTIVES = {
    "reply": Objective(lambda model, _: model, LanguageModelLoss, Evaluator, export),
    "reward": Objective(as_reward_model, RewardLoss, RewardEvaluator, export_reward_model),
}


def objective_of(config: TrainConfig) -> Objective:
    """The one that a run has."""
    return OBJECTIVES[config.objective]
