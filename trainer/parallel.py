"""Processes and sharding: the ranks' group, FSDP2 over the decoder's blocks."""

import os
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from trainer.loss import LanguageModelLoss
from trainer.structure.decoder_blocks import blocks_of

if TYPE_CHECKING:  # the benchmark of a GPU runs without pydantic
    from trainer.config import TrainConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def start_group(device: torch.device) -> None:
    """Joins the ranks that the launcher started: NCCL on GPUs, gloo on CPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")


def this_device() -> torch.device:
    """The device of this rank, of those that CUDA_VISIBLE_DEVICES leaves visible."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


def shard(model: LanguageModelLoss, config: "TrainConfig", device: torch.device) -> LanguageModelLoss:
    """Shards each block and the rest over all ranks: fp32 master weights, compute as set, fp32 reductions."""
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=DTYPES[config.run.precision], reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in blocks_of(model.model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for method in model.other_forwards:
        register_fsdp_forward_method(model, method)
    return model


def sum_over_ranks(*values: float) -> list[float]:
    """Adds up numbers over all ranks, in fp64."""
    total = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(total)
    return [float(value) for value in total]


def full(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor's whole value."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def num_parameters(model: nn.Module, *, trained: bool = False) -> int:
    """Numbers of a model, each counted once; `trained`: without those that stay as they are."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not trained)
