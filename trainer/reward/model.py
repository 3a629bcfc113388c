"""Reward models: a decoder that gives each reply a number, learned from pairs of which one was chosen.

The number is read at the reply's last token by one linear layer, as `AutoModelForSequenceClassification` with one label
has it. Only differences mean something (Bradley and Terry, 1952): the chosen reply wins with the probability
sigmoid(score of the chosen - score of the rejected).
"""

from pathlib import Path

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from trainer.appearing import appearing
from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import ConfigError, TrainConfig
from trainer.loss import LanguageModelLoss
from trainer.reward.preferences import CHOSEN, REJECTED
from trainer.structure.attention import bounds_of

PREFIX = "model."
LENGTHS = "talkmill_lengths"
"""Member of the model's config.json."""


class RewardLoss(LanguageModelLoss):
    """A reward model that answers with its rows' losses; rows hold pairs (`trainer.reward.preferences`)."""

    other_forwards = ("scores",)

    def forward(
        self,
        ids_BT: torch.Tensor,
        positions_BT: torch.Tensor,
        labels_BT: torch.Tensor,
        *,
        num_targets: int | None = None,
        num_samples: int | None = None,
        by_sample: bool = False,
    ) -> torch.Tensor:
        """Each row's sum over its verdicts, fp32, of shape B; both verdicts of a pair have the pair's loss.

        A verdict whose other one is not there counts nothing. `by_sample` sums by sample, as the base does.
        """
        scores_N, nothing = self._scores(ids_BT, positions_BT, labels_BT)
        is_verdict_BT = labels_BT != -100
        labels_N, sample_N = labels_BT[is_verdict_BT], _samples(positions_BT)[is_verdict_BT]
        row_N = sample_N if by_sample else is_verdict_BT.nonzero()[:, 0]
        num_sums = int((positions_BT == 0).sum()) if by_sample else len(ids_BT)
        is_pair_P = (labels_N[:-1] == CHOSEN) & (labels_N[1:] == REJECTED) & (sample_N[:-1] == sample_N[1:])
        losses_P = -2 * functional.logsigmoid(scores_N[:-1] - scores_N[1:])
        sums_B = scores_N.new_zeros(num_sums) + nothing
        return sums_B.index_add(0, row_N[:-1][is_pair_P], losses_P[is_pair_P])

    def scores(self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
        """The score at each verdict, row after row, fp32, of shape N."""
        return self._scores(ids_BT, positions_BT, labels_BT)[0]

    def _scores(
        self, ids_BT: torch.Tensor, positions_BT: torch.Tensor, labels_BT: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores, and a zero by which a rank without verdicts takes part in every reduction."""
        decoder = getattr(self.model, self.model.base_model_prefix)
        positions_BT = _restarted(positions_BT, labels_BT)
        bounds = bounds_of(self.model, positions_BT)
        hidden_BTD = decoder(input_ids=ids_BT, position_ids=positions_BT, use_cache=False, **bounds).last_hidden_state
        weight_1D = self.model.score.weight.float()
        scores_N = functional.linear(hidden_BTD[labels_BT != -100].float(), weight_1D)[:, 0]
        return scores_N, (hidden_BTD[:, 0].float() @ weight_1D[0]).sum() * 0.0


def _samples(positions_BT: torch.Tensor) -> torch.Tensor:
    """The number of each place's sample, row after row."""
    return (positions_BT == 0).flatten().cumsum(0).view_as(positions_BT) - 1


def _restarted(positions_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Positions that start anew with the rejected reply's dialogue, behind the verdict on the chosen one."""
    begins_BT = positions_BT == 0
    begins_BT[:, 2:] |= labels_BT[:, :-2] == CHOSEN
    places_T = torch.arange(positions_BT.shape[1], device=positions_BT.device)
    return places_T - torch.where(begins_BT, places_T, 0).cummax(1).values


def as_reward_model(model: PreTrainedModel, config: TrainConfig) -> PreTrainedModel:
    """A causal model's decoder under a new layer of one output; its configuration tells the lengths it is made for.

    Raises:
        ConfigError: `transformers` has no such form of the model's family.
    """
    structure = model.config
    structure.num_labels = 1
    setattr(
        structure, LENGTHS, {name: getattr(config.data, name) for name in ("max_source_length", "max_target_length")}
    )
    try:
        whole = AutoModelForSequenceClassification.from_config(structure, dtype=torch.float32)
        decoder = getattr(whole, whole.base_model_prefix)
        decoder.load_state_dict(model.get_decoder().state_dict())
        assert isinstance(whole.score, torch.nn.Linear)
    except (ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"model.base: no reward model of {type(model).__name__}: {reason}") from None
    return whole


def export_reward_model(model: LanguageModelLoss, chat: ChatTokenizer, folder: Path) -> None:
    """Gathers the weights of all ranks; `AutoModelForSequenceClassification` opens the folder."""
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if distributed.get_rank() == 0:
        weights = {name.removeprefix(PREFIX): tensor.to(torch.bfloat16) for name, tensor in state.items()}
        with torch.device("meta"):
            whole = AutoModelForSequenceClassification.from_config(model.model.config, dtype=torch.bfloat16)
        whole.load_state_dict(weights, assign=True)
        whole.config.pad_token_id = _padding(chat)
        with appearing(folder) as temporary:
            whole.save_pretrained(temporary)
            chat.save(temporary)
    distributed.barrier()


def _padding(chat: ChatTokenizer) -> int:
    """A token that ends no reply: `transformers` reads the score at the last one that is no padding."""
    end = chat.eos_ids[0]
    named = chat.tokenizer.token_to_id(chat.special_tokens.get("pad_token", ""))
    return next(token for token in (named, *chat.eos_ids, 0, 1) if token is not None and token != end)
