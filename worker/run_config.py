"""A job's settings completed by what this machine decides: where data and base lie, on how many processes it runs."""

import os
from collections.abc import Mapping
from pathlib import Path

import orjson

from app.models import Job, Json, Version
from app.settings import get_settings
from app.store import get_store
from app.training.folders import lay_out

PROCESSES_ON_CPU = 2


def version_ids(job: Job) -> list[str]:
    """The versions that a job learns from, the main one first, and the one that it validates on."""
    mixed = [source["version"] for source in job.config.get("data", {}).get("mix", [])]
    validation = [] if job.validation_version_id is None else [job.validation_version_id]
    return list(dict.fromkeys([job.version_id, *mixed, *validation]))


def lay_out_version(version: Version) -> Path:
    """Lays out, as a folder on this machine, what the trainer reads of a version; returns its manifest's path.

    That is what was kept and, since what is held out is chosen among all conversations, what was dropped.
    """
    folder = get_settings().work_dir.with_name("versions") / version.id
    assert version.manifest_sha256 is not None
    store = get_store()
    manifest = orjson.loads(store.path(version.manifest_sha256).read_bytes())
    files = {part["path"]: part["sha256"] for name in ("segments", "dropped") for part in manifest[name]}
    for name, sha256 in {**files, "manifest.json": version.manifest_sha256}.items():
        if not (folder / name).exists():
            store.materialise(sha256, folder / name)
    os.utime(folder)
    return folder / "manifest.json"


def write_config(job: Job, manifests: Mapping[str, Path], base_files: dict[str, str] | None) -> Path:
    """Writes the trainer's config; `manifests` are of the job's versions, by id, `base_files` of a named base."""
    config: Json = {**job.config}
    if base_files is not None:
        config["model"] = {**config["model"], "base": str(lay_out(base_files))}
    data: Json = {**config.get("data", {}), "version": str(manifests[job.version_id])}
    data["cache_dir"] = str(get_settings().work_dir.with_name("vectors"))
    if job.validation_version_id is not None:
        data["validation"] = str(manifests[job.validation_version_id])
    if "mix" in data:
        data["mix"] = [{**source, "version": str(manifests[source["version"]])} for source in data["mix"]]
    config["data"] = data
    config["run"] = {"nproc": processes(), **config.get("run", {})}
    path = get_settings().runs_dir / f"{job.id}.request.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(config))
    return path


def processes() -> int | str:
    """How many processes a run has, of a job that does not say; `auto` is the trainer's own choice, one a GPU."""
    sees_gpus = Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
    return get_settings().train_nproc or ("auto" if sees_gpus else PROCESSES_ON_CPU)
