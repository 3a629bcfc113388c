"""`architecture.json`: what a model is made of, by what it does.

Seven checks, each of the real modules: states are put into blocks and what comes out is compared, so that a family of
models that nobody has seen is described as well as a known one. The report is advice; nothing is refused for it.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.records import event, write_json
from trainer.structure.probe_blocks import Call, Probe, again, close, first_of, noise_like
from trainer.structure.token_order import position_of

LARGE = 1e6
"""A residual stream beside which nothing counts that a block adds."""
_OLD = {"rms_norm", "gated_activation", "no_bias"}
USUAL: dict[str, set[str]] = {
    "bloom": _OLD | {"no_embedding_norm"},
    "cohere": {"rms_norm"},
    "falcon": _OLD,
    "glm": {"no_bias"},
    "glm4": {"no_bias"},
    "gpt2": _OLD | {"rope_or_alibi"},
    "gpt_neox": _OLD,
    "gpt_oss": {"no_bias"},
    "gptj": _OLD,
    "mamba": {"rope_or_alibi", "no_bias"},
    "mpt": {"rms_norm", "gated_activation"},
    "nemotron": _OLD,
    "olmo": {"rms_norm"},
    "olmo2": {"pre_norm"},
    "olmo3": {"pre_norm"},
    "opt": _OLD | {"rope_or_alibi"},
    "phi": _OLD,
    "qwen2": {"no_bias"},
    "qwen2_moe": {"no_bias"},
    "stablelm": {"rms_norm", "no_bias"},
    "starcoder2": _OLD,
}
"""Departures by which whole families are built, so that they are no reason to look twice at a base."""

Finding = tuple[bool, str]


def describe(model: PreTrainedModel) -> list[dict[str, Any]]:
    """The seven checks of `architecture.json`: `name`, `ok` and what was `found`; the model stays as it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            probe = Probe(model)
            return [_checked(name, check, probe) for name, check in CHECKS.items()]
    except UNANSWERED as error:
        return [{"name": name, "ok": False, "found": f"not known: {_reason(error)}"} for name in CHECKS]
    finally:
        model.train(was_training)


def report(run_dir: Path, model: PreTrainedModel) -> None:
    """Writes `architecture.json` and a warning for each departure, one that is usual in the model's family named so.

    A run that goes on has it already.
    """
    if (run_dir / "architecture.json").exists():
        return
    checks = describe(model)
    write_json(run_dir / "architecture.json", checks)
    family = str(model.config.model_type)
    for check in checks:
        if not check["ok"]:
            usual = f", usual in the family {family}" if check["name"] in USUAL.get(family, ()) else ""
            event(run_dir, f"structure: {check['name']}: {check['found']}{usual}", level="warning")


UNANSWERED = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
"""What foreign modules raise when they are called in a way that their authors did not think of."""


def _checked(name: str, check: Callable[[Probe], Finding], probe: Probe) -> dict[str, Any]:
    try:
        ok, found = check(probe)
    except UNANSWERED as error:
        ok, found = False, f"not known: {_reason(error)}"
    return {"name": name, "ok": ok, "found": found}


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _causal_decoder(probe: Probe) -> Finding:
    """Another last token changes nothing before it; another first one does change what follows."""
    name = type(probe.model).__name__
    ids = probe.ids.repeat(3, 1)
    ids[1, -1] += 1
    ids[2, 0] += 1
    before, with_later, with_earlier = probe.states_for(ids)
    if not close(with_later[:-1], before[:-1], 1e-3):
        return False, f"{name}: a later token changes what is before it"
    if close(with_earlier[-1], before[-1], 1e-6):
        return False, f"{name}: an earlier token changes nothing after it"
    return True, f"{name}: a later token changes nothing before it"


def _pre_norm(probe: Probe) -> Finding:
    """With a residual stream twice as large each matrix is given the same, and the stream goes on twice as large."""
    raw: list[str] = []
    before: list[str] = []
    behind: list[str] = []
    normed_stream = False
    for block in probe.blocks:
        names = probe.names(block)
        once = probe.through(block, LARGE * probe.states)
        twice = probe.through(block, 2 * LARGE * probe.states)
        raw += [names[m] for m in probe.weighted(block) if m in once and not _same_input(once[m], twice[m])]
        for norm in (m for m in once if m in probe.norms and _width(once[m]) == probe.width):
            (behind if _same_input(once[norm], twice[norm]) else before).append(names[norm])
        normed_stream |= not close(first_of(twice[block].output), 2 * first_of(once[block].output))
    if normed_stream:
        return False, f"the residual stream itself passes a norm ({_listed(before or behind)})"
    if raw:
        after = f"; norms come behind ({_listed(behind)})" if behind else ""
        return False, f"{_listed(raw)} read the residual stream without a norm{after}"
    also = f", what is added to it as well ({_listed(behind)})" if behind else ""
    by = f" ({_listed(before)})" if before else ""
    return True, f"what is read from the residual stream passes a norm first{by}{also}"


def _rms_norm(probe: Probe) -> Finding:
    """Norms that do not take the mean away: adding one number to all that is given changes what they give."""
    kinds: Counter[tuple[str, bool]] = Counter()
    for norm in probe.norms:
        call = probe.calls[norm]
        given = noise_like(call.output)
        moved = again(norm, call, given + 1)
        kinds[type(norm).__name__, not close(moved, again(norm, call, given))] += 1
    texts = [
        f"{count} × {name}" + ("" if rms else ", which takes the mean away") for (name, rms), count in kinds.items()
    ]
    return bool(kinds) and all(rms for _, rms in kinds), "; ".join(texts) or "no norms"


def _gated_activation(probe: Probe) -> Finding:
    """A matrix is given products: of both signs, unlike an activation's, and not simply turned round by other signs."""
    settings = probe.model.config
    names = ("hidden_act", "hidden_activation", "activation_function", "activation")
    activation = next((getattr(settings, name) for name in names if isinstance(getattr(settings, name, None), str)), "")
    for block in probe.blocks:
        names_in_block = probe.names(block)
        one, other = (_with_norms_giving(probe, block, sign * 100 * probe.states) for sign in (1, -1))
        for module in probe.weighted(block):
            if module in one and (_is_product(one[module], other[module]) or _gates_itself(module)):
                return True, f"{activation or 'an activation'}, gated before {names_in_block[module]}"
    return False, f"{activation or 'an activation'} without a gate"


def _with_norms_giving(probe: Probe, block: nn.Module, states: torch.Tensor) -> dict[nn.Module, Call]:
    def replace(given: torch.Tensor) -> torch.Tensor:
        alike = given.numel() == states.numel() and given.shape[-1] == states.shape[-1]
        return states.view_as(given) if alike else given

    with probe.norms_give(block, replace):
        return probe.through(block, states)


def _no_embedding_norm(probe: Probe) -> Finding:
    """With an embedding twice as large the first block is given twice as much."""
    entered = [_entered_by_larger(probe, scale) for scale in (LARGE, 2 * LARGE)]
    if close(entered[1], 2 * entered[0]):
        return True, "the embedding goes into the first block without a norm"
    names = probe.names(probe.model)
    inside = set(probe.blocks[0].modules())
    order = list(probe.calls)
    early = [names[m] for m in order[: order.index(probe.blocks[0])] if m in probe.norms and m not in inside]
    return False, f"a norm between the embedding and the first block{f' ({early[0]})' if early else ''}"


def _entered_by_larger(probe: Probe, scale: float) -> torch.Tensor:
    def enlarge(_module: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
        return output * scale

    with probe.model.get_input_embeddings().register_forward_hook(enlarge):
        return probe.entering(probe.ids)


def _rope_or_alibi(probe: Probe) -> Finding:
    """Where positions come from: see `position_of`."""
    alike = probe.entering(torch.full_like(probe.ids, 5))
    if not close(alike, alike[:, :1].expand_as(alike), 1e-4):
        return False, "positions are added to the embedding"
    kinds = Counter(position_of(probe, block) for block in probe.blocks)
    rotary = sorted({type(m).__name__ for m in probe.model.modules() if "rotary" in type(m).__name__.lower()})
    words = {
        "rope": f"rotary{f' ({rotary[0]})' if rotary else ''}: order counts only together with what stands there",
        "alibi": "ALiBi: attention falls with distance, whatever stands there",
        "bias": "a bias by distance that is no ALiBi",
        "recurrence": "no attention but a state that goes from token to token",
        "none": "no positions",
    }
    texts = [f"{words[kind]}{_share(count, probe)}" for kind, count in kinds.items()]
    return bool(kinds.keys() & {"rope", "alibi"}) and kinds.keys() <= {"rope", "alibi", "none"}, "; ".join(texts)


def _no_bias(probe: Probe) -> Finding:
    """Parameters that are added."""
    found = Counter(
        ".".join(part for part in name.replace(".base_layer.", ".").split(".") if not part.isdigit())
        for name, _ in probe.model.named_parameters()
        if name.endswith(("bias", "bias_"))
    )
    leaves = {name.removesuffix(".bias").rsplit(".", 1)[-1] for name in found}
    if not found:
        return True, "no bias"
    if leaves == {"q_proj", "k_proj", "v_proj"}:
        return False, "biases of query, key and value"
    return False, f"{sum(found.values())} biases ({_listed(sorted(leaves))})"


CHECKS: dict[str, Callable[[Probe], Finding]] = {
    "causal_decoder": _causal_decoder,
    "pre_norm": _pre_norm,
    "rms_norm": _rms_norm,
    "gated_activation": _gated_activation,
    "no_embedding_norm": _no_embedding_norm,
    "rope_or_alibi": _rope_or_alibi,
    "no_bias": _no_bias,
}


def _is_product(one: Call, other: Call) -> bool:
    """Whether large values of both signs come in, and those for the opposite states are not their opposites."""
    given, opposite = one.first(), other.first()
    if given is None or opposite is None or given.shape != opposite.shape:
        return False
    both_signs = min(float(given.max()), -float(given.min())) > 0.1 * float(given.abs().max())
    return both_signs and not close(given, -opposite, 0.1)


def _gates_itself(module: nn.Module) -> bool:
    """Whether a module with all experts' matrices has twice as wide ones going in as coming out, or three of them."""
    shapes = [p.shape for p in module.parameters(recurse=False) if p.ndim == 3]
    sizes = {size for shape in shapes for size in shape[1:]}
    return len(shapes) == 3 or (len(shapes) == 2 and any(2 * size in sizes for size in sizes))


def _same_input(once: Call, twice: Call) -> bool:
    one, two = once.first(), twice.first()
    return one is None or (two is not None and one.shape == two.shape and close(one, two))


def _width(call: Call) -> int:
    given = call.first()
    return 0 if given is None else given.shape[-1]


def _listed(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:4]) + (f" and {len(distinct) - 4} more" if len(distinct) > 4 else "")


def _share(count: int, probe: Probe) -> str:
    return "" if count == len(probe.blocks) else f" in {count} of the first {len(probe.blocks)} blocks"
