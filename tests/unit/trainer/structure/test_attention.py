"""Attention of packed rows as a GPU computes it, with the kernel's definition in plain torch in the kernel's place.

The kernel itself is tested where there is a GPU, in tests/gpu.
"""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.loss import LanguageModelLoss
from trainer.structure.attention import VARLEN, bounds_of, takes_varlen, use_kernel

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {}),
    ("Qwen3", {"head_dim": 8}),
    ("Mistral", {"sliding_window": 4}),
    ("Gemma3Text", {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}),
    ("DeepseekV3", {**LATENT, "num_key_value_heads": 4, "first_k_dense_replace": 2}),
]


def reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seq_q: torch.Tensor, cu_seq_k: torch.Tensor,
    max_q: int, max_k: int, *, scale: float | None, window_size: tuple[int, int], enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """What `varlen_attn` is documented to compute."""
    assert query.ndim == 3
    assert enable_gqa == (query.shape[1] != key.shape[1])
    bounds = cu_seq_q.tolist()
    assert cu_seq_q.dtype == torch.int32
    assert (bounds[0], bounds[-1]) == (0, len(query))
    parts = []
    for start, end in zip(bounds, bounds[1:], strict=False):
        assert 0 < end - start <= max_q
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)[None]
        visible = (distance >= 0) & ((distance <= window_size[0]) | (window_size[0] < 0))
        one = (tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value))
        attended = scaled_dot_product_attention(*one, attn_mask=visible, scale=scale, enable_gqa=enable_gqa)
        parts.append(attended[0].transpose(0, 1))
    return torch.cat(parts)


def made(family: str, settings: dict[str, Any], dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    structure = getattr(transformers, f"{family}Config")(**{**SIZES, **settings})
    return AutoModelForCausalLM.from_config(structure, dtype=dtype)


def packed_rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two rows of samples and padding."""
    ids = (torch.arange(40) * 7 % 90 + 3).reshape(2, 20)
    positions = torch.tensor([[*range(9), *range(8), *range(3)], [*range(1), *range(12), *range(7)]])
    labels = torch.where(positions % 3 == 1, ids, -100)
    return ids, positions, labels


@pytest.mark.parametrize(("family", "settings"), FAMILIES)
def test_losses_and_gradients_are_those_of_masked_rows(family: str, settings: dict[str, Any]) -> None:
    masked = LanguageModelLoss(made(family, settings))
    kernel = copy.deepcopy(masked)
    assert takes_varlen(kernel.model)
    use_kernel(kernel.model, reference)
    losses = [model(*packed_rows()) for model in (masked, kernel)]
    assert torch.allclose(losses[0], losses[1], rtol=1e-4)
    for loss in losses:
        loss.sum().backward()
    for (name, one), other in zip(masked.named_parameters(), kernel.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-3 * float(one.grad.abs().max()) + 1e-7), name


@pytest.mark.parametrize("window", [None, 4])
def test_torchs_own_kernel_takes_what_it_is_given_and_gives_gradients(window: int | None) -> None:
    """Its shapes and options, without its numbers, which only a GPU gives."""
    from torch.nn.attention.varlen import varlen_attn

    with FakeTensorMode():
        loss = LanguageModelLoss(made("Mistral", {"sliding_window": window}, torch.bfloat16))
        use_kernel(loss.model, varlen_attn)
        ids = torch.zeros(2, 20, dtype=torch.long)
        losses = loss(ids, ids, ids, num_targets=12, num_samples=5)
        assert losses.shape == (2,)
        losses.sum().backward()
        assert loss.model.model.layers[0].self_attn.q_proj.weight.grad is not None


def test_a_block_compiles_as_one_graph_whatever_the_number_of_samples() -> None:
    @torch.library.custom_op("talkmill_test::attend", mutates_args=())
    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bounds: torch.Tensor, longest: int
    ) -> torch.Tensor:
        return reference(
            query, key, value, bounds, bounds, longest, longest, scale=8**-0.5, window_size=(-1, 0), enable_gqa=True
        )

    attend.register_fake(lambda query, *_: torch.empty_like(query))

    def kernel(
        query: Any, key: Any, value: Any, bounds: Any, _: Any, longest: int, *__: Any, **___: Any
    ) -> torch.Tensor:
        return attend(query, key, value, bounds, longest)

    loss = LanguageModelLoss(made("Llama", {}))
    rows = [torch.arange(20).remainder(length).reshape(1, 20).expand(2, -1) for length in (20, 7, 4, 2)]
    use_kernel(loss.model, reference)
    expected = [loss(positions + 5, positions, positions + 5).detach() for positions in rows]
    use_kernel(loss.model, kernel)
    counter = CompileCounter()
    for block in loss.model.model.layers:
        block.forward = torch.compile(block.forward, fullgraph=True, backend=counter)
    with torch.no_grad():
        for positions, losses in zip(rows, expected, strict=True):
            assert torch.allclose(loss(positions + 5, positions, positions + 5), losses, atol=1e-4)
    assert counter.frame_count <= 2, "once for each block at most"


def test_each_block_is_told_the_same_bounds_computed_once() -> None:
    calls = []

    @functools.wraps(reference)
    def counting(query: torch.Tensor, key: Any, value: Any, bounds: torch.Tensor, *others: Any, **options: Any) -> Any:
        calls.append(bounds)
        return reference(query, key, value, bounds, *others, **options)

    loss = LanguageModelLoss(made("Qwen2", {}))
    use_kernel(loss.model, counting)
    loss(*packed_rows())
    assert len(calls) == 2
    assert calls[0] is calls[1]
    assert calls[0].tolist() == [0, 9, 17, 20, 21, 33, 40]


def test_generation_with_its_cache_goes_by_sdpa() -> None:
    plain = made("Llama", {}).eval()
    model = copy.deepcopy(plain)
    use_kernel(model, reference)
    prompts = torch.tensor([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]])
    settings = {"attention_mask": (prompts > 0).long(), "max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    assert model.generate(prompts, **settings).tolist() == plain.generate(prompts, **settings).tolist()
    assert torch.equal(model(prompts[1:]).logits, plain(prompts[1:]).logits)


@st.composite
def rows_of_samples(draw: st.DrawFn) -> list[list[int]]:
    """Lengths of the samples of rows of equal length."""
    length = draw(st.integers(1, 30))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        cuts = draw(st.sets(st.integers(1, length - 1))) if length > 1 else set()
        marks = [0, *sorted(cuts), length]
        rows.append([end - start for start, end in zip(marks, marks[1:], strict=False)])
    return rows


@pytest.fixture(scope="module")
def varlen_model() -> Iterator[PreTrainedModel]:
    model = made("Llama", {})
    use_kernel(model, reference)
    yield model


@given(rows=rows_of_samples())
def test_bounds_are_where_samples_begin(varlen_model: PreTrainedModel, rows: list[list[int]]) -> None:
    positions = torch.tensor([[place for length in row for place in range(length)] for row in rows])
    lengths = [length for row in rows for length in row]
    told = bounds_of(varlen_model, positions)
    assert told["cu_seq_lens_q"].diff().tolist() == lengths
    assert bounds_of(varlen_model, positions, len(lengths))["cu_seq_lens_q"].equal(told["cu_seq_lens_q"])
    assert told["max_length_q"] == sum(rows[0])


def test_another_attention_is_told_nothing() -> None:
    assert bounds_of(made("Llama", {}), torch.arange(4)[None]) == {}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Gemma2", {"head_dim": 8}),  # scores are capped
        ("GptOss", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),  # sinks
        ("Llama", {"attention_dropout": 0.1}),
        ("Llama", {"head_dim": 512}),
        ("Llama", {"head_dim": 12}),  # the kernel wants multiples of eight
        ("Bloom", {}),  # a bias by distance
    ],
)
def test_other_kinds_of_attention_stay_as_they_are(family: str, settings: dict[str, Any]) -> None:
    assert not takes_varlen(made(family, settings))


def test_the_exported_configuration_does_not_name_it() -> None:
    model = made("Llama", {})
    use_kernel(model, reference)
    assert model.config._attn_implementation == VARLEN
    assert VARLEN not in model.config.to_json_string()
