"""Trained filters as blobs: a folder is packed into one tar, and laid open again on each machine that needs it.

Packing is canonical (order, times and owners are fixed), so the same artefact is the same blob.
"""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from app.settings import get_settings
from app.store import BlobRef, get_store


def pack(folder: Path, scratch: Path) -> BlobRef:
    """Stores a folder's files as one blob; `scratch` takes the tar meanwhile."""
    archive = scratch / "artefact.tar"
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = path.stat().st_size, 0o444
            with path.open("rb") as source:
                tar.addfile(entry, source)
    blob = get_store().put_file(archive)
    archive.unlink()
    return blob


def lay_open(sha256: str) -> Path:
    """A local folder with a packed artefact's files; made once a machine, whoever asks at the same time.

    Raises:
        FileNotFoundError: the store has no such blob.
    """
    root = get_settings().data_dir.absolute() / "filters"
    target = root / sha256
    if target.is_dir():
        os.utime(target)  # when it was used last
        return target
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=".new-"))
    try:
        with tarfile.open(get_store().path(sha256)) as tar:
            for entry in tar:
                source = tar.extractfile(entry)
                assert source is not None, "an artefact holds plain files only"
                _write(source, temporary / Path(entry.name).name)
        temporary.rename(target)
    except OSError:
        if not target.is_dir():  # somebody else was first: theirs is the same
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write(source: IO[bytes], path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
