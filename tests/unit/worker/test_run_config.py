"""A job's settings on one machine: paths in place of ids, processes where nobody said how many."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from app.cli import main
from app.models import Job
from app.settings import get_settings
from trainer.config import load_config
from worker.run_config import version_ids, write_config

MANIFESTS = {name: Path(f"/there/{name}/manifest.json") for name in ("ver-a", "ver-b", "ver-c")}


def _job(**config: Any) -> Job:
    config = {"model": {"scratch": {"preset": "tiny"}}, "run": {"seed": 1}, **config}
    return Job(id="ftjob-1", version_id="ver-a", validation_version_id="ver-c", config=config)


def test_versions_are_named_by_their_place() -> None:
    mix = [{"version": "ver-b", "weight": 0.5}, {"version": "ver-a", "weight": 1, "where": ["gender:female"]}]
    job = _job(data={"mix": mix, "where": ["crowd:vip"]})
    assert version_ids(job) == ["ver-a", "ver-b", "ver-c"]
    data = load_config(write_config(job, MANIFESTS, None)).data
    assert (data.version, data.validation) == (str(MANIFESTS["ver-a"]), str(MANIFESTS["ver-c"]))
    assert [source.version for source in data.mix] == [str(MANIFESTS["ver-b"]), str(MANIFESTS["ver-a"])]
    assert [source.where for source in data.mix] == [[], ["gender:female"]]
    assert mix[0]["version"] == "ver-b", "the job itself keeps ids"


@pytest.mark.parametrize(("said", "by_default", "nproc"), [(3, None, 3), (None, 5, 5), (3, 5, 3), (None, None, 2)])
def test_the_job_says_how_many_processes_then_the_service_then_the_machine(
    monkeypatch: pytest.MonkeyPatch, said: int | None, by_default: int | None, nproc: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if by_default is not None:
        monkeypatch.setenv("TALKMILL_TRAIN_NPROC", str(by_default))
    get_settings.cache_clear()
    job = _job(run={"seed": 1} if said is None else {"seed": 1, "nproc": said})
    assert orjson.loads(write_config(job, MANIFESTS, None).read_bytes())["run"]["nproc"] == nproc


@pytest.mark.parametrize("gpus", ["", "0,", "0 1", "all", "-1"])
def test_gpus_that_make_no_sense_are_refused(gpus: str) -> None:
    refused = CliRunner().invoke(main, ["worker", "--gpus", gpus])
    assert refused.exit_code == 2
    assert "--gpus" in refused.output
    assert len(refused.output.splitlines()) == 1
