"""Attention of packed rows on a GPU: torch's kernel for samples of any length, `torch.nn.attention.varlen`.

It computes nothing across samples and needs no mask, where `sdpa` computes whole rows and then masks them. It is put
into `transformers` by the two interfaces for that; anything but a training pass over packed rows, generation with its
cache for one, goes to `sdpa` as before. The kernel wants CUDA from compute capability 8.0 on, and bf16 or fp16.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:  # the benchmark of a GPU runs without pydantic
    from trainer.config import Run

VARLEN = "talkmill_varlen"
MAX_HEAD_DIM = 256

Kernel = Callable[..., torch.Tensor]
"""As `torch.nn.attention.varlen.varlen_attn`: queries, keys and values of shape (tokens, heads, width)."""


def choose_attention(model: PreTrainedModel, run: "Run") -> None:
    """Has the model use the kernel where GPU, precision and model allow it; else its attention stays as it is."""
    on_gpu = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    if on_gpu and run.precision != "fp32" and takes_varlen(model):
        from torch.nn.attention.varlen import varlen_attn

        use_kernel(model, varlen_attn)


def takes_varlen(model: PreTrainedModel) -> bool:
    """Whether the model's attention is softmax of scaled products, causal or in a window, and nothing else."""
    settings = model.config.get_text_config()
    width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    return (
        bool(model._supports_flash_attn)
        and bool(model._supports_attention_backend)
        and width <= MAX_HEAD_DIM
        and width % 8 == 0
        and getattr(settings, "attn_logit_softcapping", None) is None
        and not getattr(settings, "attention_dropout", 0.0)
        and not any(name.endswith("sinks") for name, _ in model.named_parameters())
    )


def use_kernel(model: PreTrainedModel, kernel: Kernel, name: str = VARLEN) -> None:
    """Makes a kernel the model's attention; `name` is the one that `transformers` knows it by."""
    AttentionInterface.register(name, _attention_by(kernel))
    AttentionMaskInterface.register(name, _mask)
    model.set_attn_implementation(name)


def bounds_of(model: PreTrainedModel, positions_BT: torch.Tensor, num_samples: int | None = None) -> dict[str, Any]:
    """What the kernel has to be told of a micro-batch, under the names of `transformers`; nothing for another one.

    A position of 0 begins a sample; what pads a row is one too. Who says `num_samples`, counted like that, spares the
    GPU the wait until they are counted.
    """
    if model.config._attn_implementation != VARLEN:
        return {}
    begins_T = positions_BT.flatten() == 0
    count = int(begins_T.sum()) if num_samples is None else num_samples
    starts_N = begins_T.nonzero_static(size=count)[:, 0].to(torch.int32)
    bounds_N = functional.pad(starts_N, (0, 1), value=positions_BT.numel())
    torch._dynamo.maybe_mark_dynamic(bounds_N, 0)
    longest = positions_BT.shape[1]  # not the longest sample's: another number would mean another compilation
    return {"cu_seq_lens_q": bounds_N, "cu_seq_lens_k": bounds_N, "max_length_q": longest, "max_length_k": longest}


def _attention_by(kernel: Kernel) -> Callable[..., tuple[torch.Tensor, None]]:
    shares_heads = "enable_gqa" in inspect.signature(kernel).parameters  # torch 2.11 does it without being told

    def attend(
        module: nn.Module,
        query_BHTD: torch.Tensor,
        key_BGTD: torch.Tensor,
        value_BGTD: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float | None = None,
        sliding_window: int | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        max_length_q: int | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        tensors = (query_BHTD, key_BGTD, value_BGTD)
        if cu_seq_lens_q is None:
            assert attention_mask is not None or not module.training, "packed rows without `bounds_of`"
            return sdpa_attention_forward(module, *tensors, attention_mask, scaling=scaling, **others)
        width, value_width = query_BHTD.shape[-1], value_BGTD.shape[-1]
        padded = functional.pad(value_BGTD, (0, width - value_width))  # the kernel knows one width
        query, key, value = (
            tensor.transpose(1, 2).flatten(0, 1).contiguous() for tensor in (query_BHTD, key_BGTD, padded)
        )
        window = (-1, 0) if sliding_window is None else (sliding_window - 1, 0)
        options = {"enable_gqa": query.shape[1] != key.shape[1]} if shares_heads else {}
        attended = kernel(
            query, key, value, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
            scale=scaling, window_size=window, **options,
        )  # fmt: skip
        batch, _, tokens, _ = query_BHTD.shape
        return attended[..., :value_width].unflatten(0, (batch, tokens)), None

    return attend


def _mask(*, attention_mask: torch.Tensor | None = None, q_length: int, kv_length: int, **others: Any) -> Any:
    """No mask for rows without padding and cache, as training has them: the kernel is told where samples begin."""
    if attention_mask is None and q_length == kv_length:
        return None
    return sdpa_mask(attention_mask=attention_mask, q_length=q_length, kv_length=kv_length, **others)
