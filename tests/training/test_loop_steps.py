"""A step of two ranks is the step of one: normalised by all targets, in fp16 too, compiled or computed twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("steps_on_ranks.py")
LR, DECAY = 1e-3, 0.1


def run(folder: Path, world: int, *wanted: str, **environment: str) -> list[dict[str, Any]]:
    """What each rank found."""
    root = SCRIPT.parent.parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), str(rank), str(world), *wanted],
            env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment},
        )
        for rank in range(world)
    ]
    assert [process.wait(240) for process in processes] == [0] * world
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(world)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    compiled = ["compiled"] if shutil.which("c++") else []
    return run(tmp_path_factory.mktemp("one"), 1, "plain", "twice", *compiled)[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(tmp_path_factory.mktemp("two"), 2, "plain", "twice", "half", "overflow", "decay")


def assert_same(found: dict[str, Any], wanted: dict[str, Any], tolerance: float) -> None:
    assert found["facts"]["loss"] == pytest.approx(wanted["facts"]["loss"], rel=tolerance)
    assert found["facts"]["grad_norm"] == pytest.approx(wanted["facts"]["grad_norm"], rel=tolerance)
    assert found["gradients"].keys() == wanted["gradients"].keys()
    for name, gradient in wanted["gradients"].items():
        assert torch.allclose(found["gradients"][name], gradient, atol=tolerance * float(gradient.abs().max())), name


def test_gradients_of_two_ranks_are_those_of_one_though_one_has_no_targets(
    one: dict[str, Any], two: list[dict[str, Any]]
) -> None:
    for rank in two:
        assert_same(rank["plain"], one["plain"], 1e-5)


def test_losses_are_told_by_source(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    facts = one["plain"]["facts"]
    assert [source["target_tokens"] for source in facts["sources"].values()] == [2 * 42, 42]
    sums = [source["loss"] * source["target_tokens"] for source in facts["sources"].values()]
    assert sum(sums) / (3 * 42) == pytest.approx(facts["loss"])
    for name, source in two[1]["plain"]["facts"]["sources"].items():
        assert source == pytest.approx(facts["sources"][name])


def test_activations_computed_twice_change_nothing(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    assert one["twice"]["prepared"] == {"activation_checkpointing": True, "compile": False}
    assert_same(one["twice"], one["plain"], 1e-6)
    assert_same(two[0]["twice"], one["plain"], 1e-5)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no compiler, which is another test")
def test_compiled_blocks_compute_the_same(one: dict[str, Any]) -> None:
    assert one["compiled"]["prepared"] == {"activation_checkpointing": True, "compile": True}
    assert_same(one["compiled"], one["plain"], 1e-4)


def test_without_a_compiler_a_run_goes_on_uncompiled_and_says_why(tmp_path: Path, one: dict[str, Any]) -> None:
    cold = {"CXX": "/nowhere/c++", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    found = run(tmp_path, 1, "compiled", **cold)[0]["compiled"]
    assert found["prepared"]["compile"] is False
    assert "c++" in found["prepared"]["not_compiled_because"]
    assert_same(found, one["plain"], 1e-6)


def test_in_fp16_the_norm_is_that_of_the_unscaled_gradients(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    facts = two[0]["half"]["facts"]
    assert facts["loss_scale"] == 2.0**16
    assert_same(two[0]["half"], one["plain"], 2e-2)
    total = sum(float(gradient.square().sum()) for gradient in two[0]["half"]["gradients"].values()) ** 0.5
    assert total == pytest.approx(min(1.0, facts["grad_norm"]), rel=1e-4), "unscaled, then clipped to 1"


def test_an_overflow_on_one_rank_skips_the_step_on_all(two: list[dict[str, Any]]) -> None:
    """Only the first rank has targets, so only its gradients overflow."""
    first, second = (rank["overflow"] for rank in two)
    assert first == second
    assert first["scales"] == [2.0**30 / 2**skips for skips in range(len(first["scales"]))]
    assert len(first["scales"]) > 1
    assert first["moved"] == [False] * (len(first["moved"]) - 1) + [True]
    assert first["next"] == first["scales"][-1], "a scale that does is kept"
    assert "skipped" not in first["facts"]
    assert first["facts"]["grad_norm"] == pytest.approx(two[0]["plain"]["facts"]["grad_norm"], rel=2e-2)


def test_decay_is_decoupled_and_spares_norms_and_embeddings(two: list[dict[str, Any]]) -> None:
    """A weight without gradient shrinks by exactly the rate times the decay, whatever its moments."""
    before, after = two[0]["decay"]["before"], two[0]["decay"]["after"]
    decayed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert decayed == {name for name in before if "proj" in name or "lm_head" in name}
    for name in decayed:
        assert torch.allclose(after[name], before[name] * (1 - LR * DECAY), rtol=1e-6, atol=0)
