"""Model folders and checkpoints on this machine, laid out from the store.

A folder is named by its content, so it is laid out once whatever names it, and never changes.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.settings import get_settings
from app.store import get_store


def digest_of(files: Mapping[str, str]) -> str:
    """Identifies a folder by its files' names and SHA-256s."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def lay_out(files: Mapping[str, str]) -> Path:
    """The folder that holds `files` (name → SHA-256), every one of them complete.

    Raises:
        FileNotFoundError: the store lacks one.
    """
    return _fetched(files, digest_of(files))


def lay_out_checkpoint(files: Mapping[str, str], config: Mapping[str, Any]) -> Path:
    """A run directory that holds one checkpoint and what opens it: `files` (name → SHA-256) and `config.json`.

    Raises:
        FileNotFoundError: the store lacks a file.
    """
    text = json.dumps(config, sort_keys=True)
    run_dir = _fetched(files, digest_of({**files, "config.json": hashlib.sha256(text.encode()).hexdigest()}))
    if not (run_dir / "config.json").exists():
        temporary = run_dir / f".config.{secrets.token_hex(4)}"
        temporary.write_text(text, "utf-8")
        temporary.replace(run_dir / "config.json")
    return run_dir


def _fetched(files: Mapping[str, str], digest: str) -> Path:
    folder = get_settings().work_dir.with_name("models") / digest
    for name, sha256 in files.items():
        if not (folder / name).exists():
            get_store().materialise(sha256, folder / name)
    os.utime(folder)  # when it was used last
    return folder
