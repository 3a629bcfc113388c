"""Registering a base model: its folder is looked over, opened once in a child process, and kept under a name.

A name never changes its meaning: jobs name their base by it. The files become blobs of the store, so every worker can
lay them out.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.audit.log import record_command
from app.db import reading, writing
from app.models import RegisteredModel
from app.store import get_store
from app.training.folders import digest_of, lay_out

NAME = re.compile(r"(?!scratch:|ft:)(?!.*:ckpt-step-)[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")
KEPT = (".json", ".safetensors", ".jinja", ".txt", ".model", ".md")
"""Kinds of files that belong to a model folder; licences are kept too."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INSPECT_TIMEOUT_S = 1800


class BaseError(ValueError):
    """The folder cannot be registered; the message says why and what to do."""


def register(folder: Path, name: str | None, tell: Callable[[str], None]) -> tuple[RegisteredModel, dict[str, Any]]:
    """Registers a Hugging Face folder; the same content under the same name again is no error.

    Args:
        folder: config.json, safetensors and tokenizer.
        name: what jobs give as `model`; the folder's own name if None.
        tell: is told what is being done.

    Returns:
        The row and the facts that the trainer found on opening it.

    Raises:
        BaseError: the name is taken or malformed, or the folder cannot be trained.
    """
    name = name if name is not None else folder.resolve().name
    if not NAME.fullmatch(name):
        raise BaseError(
            f"--name: {name!r} cannot name a model: up to 100 of A-Z a-z 0-9 _ . : -, beginning with a letter or "
            "digit, not with scratch: or ft:, and without :ckpt-step-"
        )
    paths = files_of(folder)
    tell(f"storing {len(paths)} files")
    blobs = {path.name: get_store().put_file(path) for path in paths}
    files = {file: blob.sha256 for file, blob in blobs.items()}
    digest = f"sha256:{digest_of(files)}"
    _registered(name, digest)
    tell("opening the model once")
    facts = _inspect_stored(files, folder)
    rows = [{"name": file, "sha256": blob.sha256, "bytes": blob.bytes} for file, blob in blobs.items()]
    with suppress(IntegrityError), writing() as session:  # another command may take the name meanwhile
        if session.get(RegisteredModel, name) is None:
            session.add(RegisteredModel(id=name, files=rows, digest=digest))
            record_command(session, "talkmill models add", name)
    model = _registered(name, digest)
    assert model is not None
    return model, facts


def files_of(folder: Path) -> list[Path]:
    """The files of a model folder that are kept, by name; subfolders and hidden files are no part of it.

    Raises:
        BaseError: there is no such folder, a link leads out of it, or it holds pickled weights.
    """
    if not folder.is_dir():
        raise BaseError(f"{folder} is no folder")
    root = folder.resolve()
    kept = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix in PICKLES:
            raise BaseError(f"{path.name}: pickled files can run code when opened: keep only safetensors in {folder}")
        if not path.resolve().is_relative_to(root):
            raise BaseError(f"{path.name} is a link that leads out of {folder}: copy the folder with `cp -rL`")
        if path.is_file() and (path.suffix in KEPT or path.name.startswith(("LICENSE", "NOTICE"))):
            kept.append(path)
    names = {path.name for path in kept}
    for needed in ("config.json", "tokenizer.json"):
        if needed not in names:
            raise BaseError(f"{folder} has no {needed}: name a Hugging Face model folder")
    if not any(name.endswith(".safetensors") for name in names):
        raise BaseError(f"{folder} has no safetensors: save the model with `save_pretrained`")
    return kept


def _inspect_stored(files: dict[str, str], source: Path) -> dict[str, Any]:
    """Opens what the store holds, not what was given, so that the model opened is the one registered."""
    folder = lay_out(files)
    try:
        return inspect(folder)
    except BaseError as error:
        shutil.rmtree(folder)
        raise BaseError(str(error).replace(str(folder), str(source))) from None


def inspect(folder: Path) -> dict[str, Any]:
    """What the trainer finds on opening the folder, in a process of its own.

    Raises:
        BaseError: it cannot be trained, and why.
    """
    command = [sys.executable, "-m", "trainer", "inspect", str(folder)]
    try:
        child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSPECT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise BaseError(f"{folder} could not be opened within {INSPECT_TIMEOUT_S // 60} minutes") from None
    if child.returncode < 0:
        raise BaseError(f"opening {folder} ended with signal {-child.returncode}: is there memory enough?")
    if child.returncode > 0:
        reason = (child.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BaseError(f"{folder}: {reason.removeprefix('Error: ').removeprefix('model.base: ')}")
    facts: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return facts


def _registered(name: str, digest: str) -> RegisteredModel | None:
    """The model of this name, if there is one.

    Raises:
        BaseError: it is another one.
    """
    with reading() as session:
        model = session.get(RegisteredModel, name)
    if model is not None and model.digest != digest:
        raise BaseError(f"{name} names another model already, and names never change: choose another --name")
    return model
