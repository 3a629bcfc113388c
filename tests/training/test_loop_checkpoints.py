"""Checkpoints of one rank, within the process: what is kept, what a save holds, how a failing one is told."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

from trainer import checkpoint
from trainer.checkpoint import Checkpoints, Progress, best_of, read_qualities
from trainer.config import parse_config
from trainer.records import TrainingError

HISTORY = [{"step": step, "loss": 1.0, "grad_norm": 1.0, "loss_scale": 1.0, "rows": 1} for step in range(1, 100)]


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


Made = tuple[Checkpoints, nn.Linear]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    def make(**settings: Any) -> Made:
        torch.manual_seed(0)
        model = nn.Linear(8, 8)
        fully_shard(model)
        optimizer = torch.optim.AdamW(model.parameters())
        config = parse_config({"model": {"scratch": {}}, "data": {"version": "m"}, "checkpoint": settings})
        return Checkpoints(tmp_path, config, model, optimizer), model  # type: ignore[arg-type]

    return make


def quality(step: int, *, finite: bool = True, validation_loss: float | None = None) -> dict[str, Any]:
    norms = {"mean": 1.0, "spread": 0.1, "max": 1.2}
    return {
        "step": step, "loss": 1.0, "loss_scale": 1.0, "skipped_share": 0.0, "grad_norm": norms, "finite": finite,
        "validation_loss": validation_loss,
    }  # fmt: skip


def test_the_newest_the_first_the_best_and_the_newest_good_one_stay(make: Callable[..., Made], tmp_path: Path) -> None:
    checkpoints, _ = make(keep=2)
    losses = {2: 0.5, 4: 0.9}
    for step in range(8):
        given = quality(step, finite=step < 5, validation_loss=losses.get(step))
        checkpoints.save(Progress(step, 10 * step), given, HISTORY[:step])
    checkpoints.wait()
    assert sorted(read_qualities(tmp_path)) == [0, 2, 4, 6, 7], "4 is the newest good one, 2 the best"
    assert checkpoints.best == best_of(read_qualities(tmp_path)) == (2, 0.5)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [f"step-{n}" for n in (0, 2, 4, 6, 7)]


def test_weights_that_are_not_finite_are_told(make: Callable[..., Made], tmp_path: Path) -> None:
    checkpoints, model = make()
    checkpoints.save(Progress(1), quality(1), HISTORY[:1])
    with torch.no_grad():
        model.weight[3, 3] = float("inf")
    checkpoints.save(Progress(2), quality(2), HISTORY[:2])
    checkpoints.wait()
    assert {step: found["finite"] for step, found in read_qualities(tmp_path).items()} == {1: True, 2: False}


def test_a_save_holds_what_was_though_the_run_goes_on(
    make: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow: nothing is written before the weights have changed."""
    go_on = threading.Event()
    real = checkpoint.dcp.save

    def slow(*args: Any, **kwargs: Any) -> Any:
        go_on.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(checkpoint.dcp, "save", slow)
    checkpoints, model = make()
    before = model.weight.full_tensor().clone()
    checkpoints.save(Progress(3, rows=21, loss_scale=4.0, good_steps=2), quality(3), HISTORY[:3])
    with torch.no_grad():
        model.weight.fill_(7.0)
    checkpoints.check()
    assert read_qualities(tmp_path) == {}, "it has no name before it is whole"
    go_on.set()
    checkpoints.wait()
    assert checkpoints.load(3) == Progress(3, rows=21, loss_scale=4.0, good_steps=2)
    assert torch.equal(model.weight.full_tensor(), before)


def test_a_failing_save_is_told_at_the_next_step_and_what_was_there_stays(
    make: Callable[..., Made], tmp_path: Path
) -> None:
    checkpoints, _ = make()
    checkpoints.save(Progress(1), quality(1), HISTORY[:1])
    checkpoints.wait()
    (tmp_path / "checkpoints" / ".step-2.new").write_text("in the way")
    checkpoints.save(Progress(2), quality(2), HISTORY[:2])
    checkpoints._running.exception(30)  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match=r"checkpoint of step 2 cannot be written: .*MB are free"):
        checkpoints.check()
    assert sorted(read_qualities(tmp_path)) == [1]


def test_without_async_a_save_is_done_when_it_returns(make: Callable[..., Made], tmp_path: Path) -> None:
    checkpoints, _ = make(**{"async": False})
    checkpoints.save(Progress(1), quality(1), HISTORY[:1])
    assert sorted(read_qualities(tmp_path)) == [1]


def test_what_a_kill_left_half_written_or_half_removed_goes(make: Callable[..., Made], tmp_path: Path) -> None:
    for name in (".step-4.new", ".step-2.old"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "quality.json").write_text("{}")
    make()
    assert list((tmp_path / "checkpoints").iterdir()) == []
