"""What a run will cost, before it begins: tokens, steps, memory. Estimated from a sample, and said to be so."""

import math
from typing import Any

import orjson
from sqlalchemy.orm import Session

from app.datasets import service
from app.store import get_store
from app.training.repository import model_files
from trainer.config import PRESETS

SAMPLED = 64
"""Conversations whose tokens are counted."""
MIN_STEPS, LEAST_BATCH, MOST_BATCH = 200, 4096, 65_536
"""How the trainer chooses a batch where none is given."""
TEMPLATE_TOKENS = 4
"""Of a turn: its role and its marks, about."""
FULL_BYTES, FROZEN_BYTES = 18, 4
"""A trained parameter: fp32 weight, gradient and two moments, and its bf16 copy; a frozen one under LoRA: fp32."""


def estimate(
    session: Session, version_id: str, model: str, *, epochs: float, max_steps: int | None, batch_tokens: int | None,
    lora: bool,
) -> dict[str, Any]:  # fmt: skip
    """Tokens of an epoch and of the run, its steps and batch, parameters and the bytes that they and their states take.

    Raises:
        NotFound, Conflict: there is no such version, or it has not succeeded.
    """
    epoch_tokens = _tokens_of(session, version_id)
    batch = batch_tokens or max(LEAST_BATCH, min(MOST_BATCH, int(epoch_tokens * epochs / MIN_STEPS)))
    steps = max_steps or max(1, math.ceil(epoch_tokens * epochs / batch))
    parameters = _parameters(session, model)
    each = FROZEN_BYTES if lora else FULL_BYTES
    return {
        "epoch_tokens": epoch_tokens,
        "tokens": steps * batch if max_steps else int(epoch_tokens * epochs),
        "steps": steps,
        "batch_tokens": batch,
        "parameters": parameters,
        "memory_bytes": None if parameters is None else parameters * each,
    }


def _tokens_of(session: Session, version_id: str) -> int:
    """All kept conversations' tokens: counted in some, carried over to the rest by their characters."""
    import polars as pl

    from trainer.dialogues import PACKAGED, load_chat_tokenizer

    version, folder = service.open_version(session, version_id)
    kept = version.counts["conversations_kept"]
    if not kept:
        return 0
    chat = load_chat_tokenizer(PACKAGED)
    first = pl.scan_parquet(folder.segments[0]).head(SAMPLED).select("messages", "characters").collect().to_dicts()
    tokens = sum(chat.count(turn["content"]) + TEMPLATE_TOKENS for row in first for turn in row["messages"])
    characters = sum(row["characters"] for row in first) or 1
    counts = service.tag_counts(session, version_id)
    whole = characters * kept / len(first) if counts is None else counts["characters"].sum()
    return int(tokens * whole / characters)


def _parameters(session: Session, model: str) -> int | None:
    """How many parameters a model has: of a preset by its sizes, of a base by its files."""
    if model.startswith("scratch:"):
        return _of_preset(PRESETS.get(model.removeprefix("scratch:"), {}))
    files = model_files(session, model)
    if files is None or "config.json" not in files:
        return None
    config = orjson.loads(get_store().path(files["config.json"]).read_bytes())
    each = 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2
    weights = [sha256 for name, sha256 in files.items() if name.endswith(".safetensors")]
    return sum(get_store().path(sha256).stat().st_size for sha256 in weights) // each


def _of_preset(sizes: dict[str, int]) -> int | None:
    if not sizes:
        return None
    hidden, head = sizes["hidden_size"], sizes["hidden_size"] // sizes["num_heads"]
    attention = 2 * hidden * hidden + 2 * hidden * head * sizes["num_kv_heads"]
    feed_forward = 3 * hidden * -(-hidden * 8 // 3 // 64) * 64
    return sizes["num_layers"] * (attention + feed_forward) + sizes["vocab_size"] * hidden
