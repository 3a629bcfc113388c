"""Model folders on this machine, laid out from the store.

A folder is named by its content, so it is laid out once whatever names it, and never changes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

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
    folder = get_settings().work_dir.with_name("models") / digest_of(files)
    for name, sha256 in files.items():
        if not (folder / name).exists():
            get_store().materialise(sha256, folder / name)
    return folder
