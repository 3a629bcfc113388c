"""The tokenizer of a model from scratch: a byte-level BPE trained on the version's own text, once for all its runs.

It is kept in the token cache under the version's content and its size. It learns from at most `MAX_CHARS` characters,
taken evenly over the version, so that neither its time nor its memory grows with a large one.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version as installed
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trainer.chat_tokenizer import CHATML_TOKENS, ChatTokenizer, load_chat_tokenizer
from trainer.data.version import DatasetVersion
from trainer.dialogues import DialogueError

CODE_VERSION = 1
"""Raised with every change of what tokenizer comes out."""
MAX_CHARS = 2_000_000
"""Chinese clauses hardly come twice, and each costs about 100 bytes a character while it is learned from."""
MAX_TOKEN_CHARS = 16
END_OF_TEXT = "<|endoftext|>"
FINGERPRINT = "fingerprint"
"""The file that tells which tokenizer was written."""


def scratch_tokenizer(version: DatasetVersion, vocab_size: int, cache: Path) -> ChatTokenizer:
    """The version's tokenizer with at most so many entries, trained now where the cache has none that is whole.

    Raises:
        ConfigError: a segment of the version is damaged.
    """
    parts = [CODE_VERSION, installed("tokenizers"), version.digest, vocab_size, MAX_CHARS]
    folder = cache / f"tokenizer-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"
    with suppress(OSError, DialogueError):
        found = load_chat_tokenizer(str(folder))
        if found.fingerprint == (folder / FINGERPRINT).read_text("utf-8"):
            return found
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
    train_tokenizer(version.texts(max_chars=MAX_CHARS), vocab_size).save(new)
    made = load_chat_tokenizer(str(new))
    (new / FINGERPRINT).write_text(made.fingerprint, "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        new.rename(folder)
    except OSError:  # another run was quicker, with the same one
        shutil.rmtree(new)
    return made


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> ChatTokenizer:
    """A byte-level BPE with ChatML's markers; the same text gives the same tokenizer."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, *CHATML_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_CHARS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    config = {"eos_token": CHATML_TOKENS[1], "pad_token": END_OF_TEXT}
    return ChatTokenizer("scratch", tokenizer.to_str(), config, None)
