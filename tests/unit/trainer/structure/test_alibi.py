"""The model with ALiBi: what `transformers` makes of its folder, packed rows, generation with and without a cache."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from trainer.config import parse_config
from trainer.loss import LanguageModelLoss
from trainer.reward.model import RewardLoss, as_reward_model
from trainer.structure.alibi import slopes_of

LOAD = "from transformers import AutoConfig, AutoModelForCausalLM"


def made(num_heads: int = 6) -> PreTrainedModel:
    structure = AutoConfig.for_model(
        "talkmill_alibi", vocab_size=96, hidden_size=8 * num_heads, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=num_heads, num_key_value_heads=num_heads // 2, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(structure, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return made()


IDS = torch.arange(3, 27).reshape(1, 24)


@pytest.mark.parametrize(
    "imports",
    [
        f"{LOAD}; import trainer",
        f"import trainer; from transformers import AutoModelForCausalLM; {LOAD}",
        f"import trainer; from transformers import LlamaForCausalLM; {LOAD}",
    ],
)
def test_transformers_opens_the_folder_after_import_trainer(
    imports: str, model: PreTrainedModel, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    assert "rope_parameters" not in json.loads((tmp_path / "config.json").read_text())
    program = (
        f"{imports}; import json, torch; model = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r});"
        "print(type(AutoConfig.for_model('talkmill_alibi')).__name__);"
        "print(json.dumps(model(torch.arange(3, 27).reshape(1, 24)).logits.tolist()))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    name, logits = said.splitlines()
    assert name == "AlibiConfig"
    assert torch.equal(torch.tensor(json.loads(logits)), model(IDS).logits)


def test_import_trainer_alone_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys, trainer; print(sorted({'torch', 'transformers', 'trainer.structure.alibi'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"


def test_without_it_the_type_is_unknown_and_never_taken_for_a_llama(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert (settings["model_type"], settings["architectures"]) == ("talkmill_alibi", ["AlibiForCausalLM"])


def test_slopes_are_those_of_the_paper() -> None:
    assert slopes_of(8) == [2.0**-n for n in range(1, 9)]
    assert slopes_of(16)[:3] == [2.0**-0.5, 2.0**-1, 2.0**-1.5]
    assert slopes_of(6) == [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3]


def test_attention_falls_with_distance_by_each_heads_slope(model: PreTrainedModel) -> None:
    """With queries of nothing the weights are those of the bias alone."""
    alone = made()
    alone.set_attn_implementation("eager")
    with torch.no_grad():
        alone.model.layers[0].self_attn.q_proj.weight.zero_()
    weights_HQK = alone(IDS, output_attentions=True).attentions[0][0]
    ratio_H = weights_HQK[:, -1, 5] / weights_HQK[:, -1, 4]
    assert torch.allclose(ratio_H.log(), torch.tensor(slopes_of(6)), atol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_samples_neither_see_nor_move_each_other(attention: str) -> None:
    model = made()
    model.set_attn_implementation(attention)
    loss = LanguageModelLoss(model)
    samples = [IDS[0, :5], IDS[0, 5:12], IDS[0, 12:]]

    def learn(ids: torch.Tensor, positions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = loss(ids[None], positions[None], labels[None]).sum()
        value.backward()
        return value.detach()

    labels = [torch.cat([sample[1:], torch.tensor([-100])]) for sample in samples]
    positions = [torch.arange(len(sample)) for sample in samples]
    alone = sum(learn(*parts) for parts in zip(samples, positions, labels, strict=True))
    moved_alone = {name: p.grad.clone() for name, p in loss.named_parameters() if p.grad is not None}
    loss.zero_grad()
    packed = learn(*(torch.cat(parts) for parts in (samples, positions, labels)))
    assert torch.allclose(packed, torch.as_tensor(alone), rtol=1e-5)
    for name, p in loss.named_parameters():
        assert p.grad is not None
        assert torch.allclose(p.grad, moved_alone[name], atol=1e-5), name


def test_generation_is_the_same_with_and_without_a_cache(model: PreTrainedModel) -> None:
    prompts = torch.stack([IDS[0, :9], torch.cat([torch.zeros(4, dtype=torch.long), IDS[0, 9:14]])])
    settings = {"attention_mask": (prompts > 0).long(), "max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        cached = model.generate(prompts, use_cache=True, **settings)
        alone = model.generate(prompts[1:, 4:], max_new_tokens=12, do_sample=False, eos_token_id=None)
        assert cached.tolist() == model.generate(prompts, use_cache=False, **settings).tolist()
    assert cached[1, 4:].tolist() == alone[0].tolist(), "what pads a shorter prompt changes nothing"


def test_a_reward_model_can_be_made_of_it(model: PreTrainedModel) -> None:
    settings = {"model": {"scratch": {"position": "alibi"}}, "objective": "reward"}
    config = parse_config({**settings, "data": {"preferences": "pairs.jsonl"}})
    reward = as_reward_model(model, config).eval()
    assert type(reward).__name__ == "AlibiForSequenceClassification"
    scores = RewardLoss(reward).scores(
        IDS, torch.arange(24)[None], torch.full_like(IDS, -100).index_fill(1, torch.tensor([11, 23]), 1)
    )
    assert scores.shape == (2,)
    assert torch.isfinite(scores).all()
