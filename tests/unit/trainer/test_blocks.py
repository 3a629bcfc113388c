"""When activations are computed twice: an estimate of a step's memory against the card's."""

from trainer.blocks import memory_bytes

LLAMA_1B = {
    "num_weights": 1_235_814_400, "num_layers": 16, "hidden": 2048, "intermediate": 8192, "vocab": 128_256,
    "dtype_bytes": 2,
}  # fmt: skip
GB = 10**9


def test_weights_moments_and_activations_count() -> None:
    """1.24 billion weights are 19.8 GB of state; 16,384 tokens keep 30 GB; a chunk's logits take 1.6 GB."""
    whole = memory_bytes(**LLAMA_1B, num_trained=LLAMA_1B["num_weights"], world=1, micro_tokens=16_384)
    assert 50 * GB < whole < 53 * GB
    short = memory_bytes(**LLAMA_1B, num_trained=LLAMA_1B["num_weights"], world=1, micro_tokens=2_048)
    assert 24 * GB < short < 27 * GB


def test_ranks_share_the_state_but_not_the_activations() -> None:
    one, eight = (
        memory_bytes(**LLAMA_1B, num_trained=LLAMA_1B["num_weights"], world=world, micro_tokens=16_384)
        for world in (1, 8)
    )
    assert one - eight == LLAMA_1B["num_weights"] * 16 * 7 // 8


def test_frozen_weights_have_no_moments() -> None:
    adapted = memory_bytes(**LLAMA_1B, num_trained=10_000_000, world=1, micro_tokens=1_024)
    whole = memory_bytes(**LLAMA_1B, num_trained=LLAMA_1B["num_weights"], world=1, micro_tokens=1_024)
    assert whole - adapted == (LLAMA_1B["num_weights"] - 10_000_000) * 12
