"""`python -m trainer inspect FOLDER`: opens a base model once, as training would, and tells what it is."""

from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import ConfigError
from trainer.dialogues import DialogueError
from trainer.structure.architecture import describe
from trainer.structure.model import check_base, keeps_samples_apart, open_base


def inspect(folder: Path) -> dict[str, Any]:
    """Facts of a base that can be trained.

    Raises:
        ConfigError: it cannot be trained, and why.
    """
    logging.disable_progress_bar()
    check_base(folder)
    try:
        chat = load_chat_tokenizer(str(folder))
        if not chat.layout(("user", "assistant")).pieces:
            raise DialogueError("the chat template does not render every turn")
    except DialogueError as error:
        raise ConfigError(f"model.base: {error}") from None
    model = open_base(folder, chat)
    broken = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ConfigError(f"model.base: {broken[0]} holds numbers that are not finite")
    architecture = describe(model)
    if not architecture[0]["ok"]:
        raise ConfigError(f"model.base: the model is no causal decoder ({architecture[0]['found']})")
    return {
        "class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocab_size": chat.vocab_size,
        "max_positions": getattr(model.config, "max_position_embeddings", None),
        "chat_template": "own" if chat.has_own_template else "ChatML",
        "default_system": chat.default_system,
        "end_of_turn": [chat.tokenizer.id_to_token(index) for index in chat.eos_ids],
        "packing": keeps_samples_apart(model),
        "architecture": architecture,
    }
