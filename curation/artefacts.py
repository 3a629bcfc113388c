"""What a learned filter's artefact is: a folder of arrays and a description, whose digest is over all of it."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from curation.errors import CurationError
from curation.segments import file_sha256, write_json

Settings = TypeVar("Settings", bound=BaseModel)
Progress = Callable[[str, int, int], None]
"""Told a stage and how much of how much of it is done."""
MAX_HOLDOUT = 0.5


@dataclass(frozen=True)
class Kind:
    """A kind of artefact."""

    name: str
    """As users call it."""
    format: str
    preparation: int
    """Raised with every change of how texts are read: an artefact is read only by the code of its training."""

    @property
    def description(self) -> str:
        """The file that describes an artefact."""
        return f"{self.name}.json"

    def read(self, folder: Path) -> dict[str, Any]:
        """What an artefact's description says, its digest checked.

        Raises:
            CurationError: there is none, or it was changed.
        """
        path = folder / self.description
        try:
            described = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise CurationError(f"{folder} holds no {self.name}: {path.name} is missing") from None
        except (OSError, ValueError, RecursionError):
            raise CurationError(f"{path} cannot be read: train the {self.name} again") from None
        if not isinstance(described, dict) or described.get("format") != self.format:
            raise CurationError(f"{path} does not describe a {self.name} of this version of Talkmill ({self.format})")
        if described.get("digest") != description_digest(described):
            raise CurationError(f"{path} was changed after training: train the {self.name} again")
        if described["preparation"] != self.preparation:
            raise CurationError(f"{folder}: made by another version of Talkmill, train the {self.name} again")
        return described

    def load(self, folder: Path) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """An artefact's description and its arrays by file name.

        Raises:
            CurationError: it is not one, is damaged, or is of another version of Talkmill.
        """
        described = self.read(folder)
        for name, sha256 in described["arrays_sha256"].items():
            if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
                what = f"{folder / name} is not what {self.description} describes"
                raise CurationError(f"{what}: train the {self.name} again")
        arrays = {name: np.load(folder / name, allow_pickle=False) for name in described["arrays_sha256"]}
        return described, arrays

    def write(self, described: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]], folder: Path) -> dict[str, Any]:
        """Writes arrays by file name and the description, which is completed and returned."""
        for name, array in arrays.items():
            np.save(folder / name, array, allow_pickle=False)
        described = {
            **described, "format": self.format, "preparation": self.preparation,
            "arrays_sha256": {name: file_sha256(folder / name) for name in arrays},
        }  # fmt: skip
        described["digest"] = description_digest(described)
        write_json(described, folder / self.description)
        return described


def description_digest(described: dict[str, Any]) -> str:
    """The digest of an artefact: over its description, which holds the arrays' hashes."""
    plain = {key: value for key, value in described.items() if key != "digest"}
    return f"sha256:{hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()}"


def read_settings(model: type[Settings], value: dict[str, Any] | None) -> Settings:
    """Checks settings of a training.

    Raises:
        CurationError: an unknown one or one out of bounds, named.
    """
    try:
        return model.model_validate(value or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise CurationError(f"{name}: {first['msg']}" if name else first["msg"]) from None


def check_training(out: Path, holdout: float, records: str) -> None:
    """Refuses a training before it begins; `records` are what it learns from.

    Raises:
        CurationError: the share held out is no share, or there is something at `out`.
    """
    if not 0 < holdout <= MAX_HOLDOUT:
        raise CurationError(f"holdout: must be more than 0 and at most {MAX_HOLDOUT} of the {records}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CurationError(f"{out} exists and is not an empty folder")


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` whole, or goes if something fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield folder
        folder.chmod(0o755)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
