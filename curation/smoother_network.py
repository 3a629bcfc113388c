"""The network of a smoother: one layer of gated recurrent units in each direction, and a linear part beside it.

Each character's input is a sum of rows of one table (character, part of speech, kind of repeat, what the rules say of
it, distances at which it stands again). The units of both directions and the weights of hashed features add up to one
number: the logit of leaving the character out. Gated recurrent units are those of Cho et al., 2014, in the form that
keeps the reset gate behind the product with the state.

Training runs in batches through numpy's matrix products; asked, the table is multiplied with the units' input weights
once, and compiled code reads text by text, so that the answer does not depend on what else is asked.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.smoother import CODES
from curation.smoother_reading import NUM_DISTANCES, REPEAT_BITS, SHAPES, Rows, Seen

Floats = npt.NDArray[np.float32]
NUM_BITS = 2 * NUM_DISTANCES
NUM_VOTES = 1 + len(CODES)
UNKNOWN_CHARACTER = 0


@dataclass
class Parameters:
    """What is learned; gradients have the same form."""

    table: Floats
    """Rows × inputs: unknown and known characters, shapes, repeats, votes, bits."""
    into: Floats
    """Directions × inputs × (reset, update, candidate)."""
    bias: Floats
    """Directions × the same."""
    recurrent: Floats
    """Directions × units × the same."""
    recurrent_bias: Floats
    """Directions × units: of the candidate, before the reset gate."""
    out: Floats
    """Of both directions' units, and a last one: the bias."""

    @classmethod
    def drawn(cls, num_characters: int, inputs: int, units: int, rng: np.random.Generator) -> "Parameters":
        def normal(*shape: int, scale: float) -> Floats:
            return (rng.standard_normal(shape) * scale).astype(np.float32)

        rows = 1 + num_characters + SHAPES + (1 << REPEAT_BITS) + NUM_VOTES + NUM_BITS
        return cls(
            normal(rows, inputs, scale=0.3),
            normal(2, inputs, 3 * units, scale=inputs**-0.5),
            np.zeros((2, 3 * units), dtype=np.float32),
            normal(2, units, 3 * units, scale=units**-0.5),
            np.zeros((2, units), dtype=np.float32),
            normal(2 * units + 1, scale=0.1),
        )

    def zeros(self) -> "Parameters":
        return Parameters(**{name.name: np.zeros_like(getattr(self, name.name)) for name in fields(self)})

    def arrays(self) -> list[Floats]:
        return [getattr(self, name.name) for name in fields(self)]


def table_rows(seen: Seen, characters: npt.NDArray[np.uint32], votes: npt.NDArray[np.uint8]) -> Rows:
    """The four rows of each character; `characters`: those that are known, rising; `votes`: below NUM_VOTES."""
    at = np.searchsorted(characters, seen.points).clip(max=max(0, len(characters) - 1))
    known = characters[at] == seen.points if len(characters) else np.zeros(len(at), dtype=bool)
    first = 1 + len(characters)
    own = np.where(known, at + 1, UNKNOWN_CHARACTER)
    repeats = first + SHAPES + seen.repeats
    said = first + SHAPES + (1 << REPEAT_BITS) + votes.astype(np.int64)
    return np.stack([own, first + seen.shapes, repeats, said], 1).astype(np.int32)


def bit_rows(parameters: Parameters) -> Floats:
    """The rows of the distances at which a character stands again."""
    return parameters.table[-NUM_BITS:]


class Batch:
    """Some texts side by side: time × texts; and what passed through the network, for the way back."""

    def __init__(
        self, rows: Rows, again: npt.NDArray[np.uint32], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ):
        """`rows`, `again`: of all characters; the batch's texts run from `begins` to `ends`."""
        lengths = ends - begins
        steps = np.arange(lengths.max(initial=1))
        self.mask = (steps[:, None] < lengths).astype(np.float32)
        self.at = np.where(self.mask > 0, begins + steps[:, None], begins)
        self.rows = rows[self.at]
        self.bits = ((again[self.at][..., None] >> np.arange(NUM_BITS, dtype=np.uint32)) & 1).astype(np.float32)


def forward(parameters: Parameters, batch: Batch, dropped: Floats, dropped_out: Floats) -> tuple[Floats, "Passed"]:
    """The units' part of the logits, time × texts, without the bias. `dropped`: factors of inputs and of units."""
    rows = batch.rows
    inputs = parameters.table[rows].sum(2)
    inputs = (inputs + batch.bits @ bit_rows(parameters)) * dropped
    steps, texts, _ = inputs.shape
    units = parameters.recurrent.shape[1]
    states = np.zeros((2, steps + 1, texts, units), dtype=np.float32)
    gates = np.zeros((2, steps, texts, 4 * units), dtype=np.float32)
    for way in range(2):
        into = inputs @ parameters.into[way] + parameters.bias[way]
        for step in range(steps) if way == 0 else range(steps - 1, -1, -1):
            before, after = (step, step + 1) if way == 0 else (step + 1, step)
            product = states[way, before] @ parameters.recurrent[way]
            _step(
                into[step], product, parameters.recurrent_bias[way], states[way, before], batch.mask[step],
                states[way, after], gates[way, step],
            )  # fmt: skip
    said = np.concatenate([states[0, 1:], states[1, :-1]], axis=2) * dropped_out
    return said @ parameters.out[:-1], Passed(inputs, states, gates, said)


@dataclass
class Passed:
    """What passed through the network."""

    inputs: Floats
    states: Floats
    gates: Floats
    said: Floats


def backward(
    parameters: Parameters, batch: Batch, passed: Passed, slopes: Floats, dropped: Floats, dropped_out: Floats
) -> Parameters:
    """Gradients, from those of the logits."""
    made = parameters.zeros()
    steps, texts, units = passed.states.shape[1] - 1, passed.states.shape[2], passed.states.shape[3]
    made.out[:-1] = np.einsum("tbh,tb->h", passed.said, slopes)
    of_said = slopes[..., None] * parameters.out[:-1] * dropped_out
    of_inputs = np.zeros_like(passed.inputs)
    for way in range(2):
        into = np.zeros((steps, texts, 3 * units), dtype=np.float32)
        product = np.zeros_like(into)
        carried = np.zeros((texts, units), dtype=np.float32)
        for step in range(steps - 1, -1, -1) if way == 0 else range(steps):
            carried += of_said[step, :, way * units : (way + 1) * units]
            state = passed.states[way, step if way == 0 else step + 1]
            carried = _step_back(carried, passed.gates[way, step], state, batch.mask[step], into[step], product[step])
            carried += product[step] @ parameters.recurrent[way].T
        before = passed.states[way, :-1] if way == 0 else passed.states[way, 1:]
        made.recurrent[way] = before.reshape(-1, units).T @ product.reshape(-1, 3 * units)
        made.recurrent_bias[way] = product[..., 2 * units :].sum((0, 1))
        made.into[way] = passed.inputs.reshape(-1, passed.inputs.shape[2]).T @ into.reshape(-1, 3 * units)
        made.bias[way] = into.sum((0, 1))
        of_inputs += into @ parameters.into[way].T
    of_inputs *= dropped * batch.mask[..., None]
    width = of_inputs.shape[2]
    _scatter(made.table, batch.rows.reshape(-1, batch.rows.shape[-1]), of_inputs.reshape(-1, width))
    made.table[-NUM_BITS:] += batch.bits.reshape(-1, NUM_BITS).T @ of_inputs.reshape(-1, width)
    return made


@compiled
def _bent(value: Any) -> Any:
    """tanh, by a fraction that is right to 1e-4 and computed alike everywhere."""
    x = min(max(value, np.float32(-4.9)), np.float32(4.9))
    square = x * x
    over = x * (np.float32(135135) + square * (np.float32(17325) + square * (np.float32(378) + square)))
    under = np.float32(135135) + square * (np.float32(62370) + square * (np.float32(3150) + square * np.float32(28)))
    return over / under


@compiled
def _gate(value: Any) -> Any:
    return np.float32(0.5) + np.float32(0.5) * _bent(np.float32(0.5) * value)


@compiled
def _step(
    into: Floats, product: Floats, bias: Floats, before: Floats, mask: Floats, after: Floats, gates: Floats
) -> None:
    """One step of all texts; `gates` keeps reset, update, candidate, and the candidate's product."""
    texts, units = before.shape
    for text in range(texts):
        if mask[text] == 0:
            after[text] = before[text]
            continue
        for unit in range(units):
            reset = _gate(into[text, unit] + product[text, unit])
            update = _gate(into[text, units + unit] + product[text, units + unit])
            inner = product[text, 2 * units + unit] + bias[unit]
            candidate = _bent(into[text, 2 * units + unit] + reset * inner)
            gates[text, unit], gates[text, units + unit] = reset, update
            gates[text, 2 * units + unit], gates[text, 3 * units + unit] = candidate, inner
            after[text, unit] = candidate + update * (before[text, unit] - candidate)


@compiled
def _step_back(slope: Floats, gates: Floats, before: Floats, mask: Floats, into: Floats, product: Floats) -> Floats:
    """Slopes of a step's input and product, from those of its state; returns what passes by the gates to the state
    before.
    """
    texts, units = before.shape
    passed = np.empty_like(slope)
    for text in range(texts):
        if mask[text] == 0:
            passed[text] = slope[text]
            continue
        for unit in range(units):
            reset, update = gates[text, unit], gates[text, units + unit]
            candidate, inner = gates[text, 2 * units + unit], gates[text, 3 * units + unit]
            given = slope[text, unit]
            of_candidate = given * (1 - update) * (1 - candidate * candidate)
            of_update = given * (before[text, unit] - candidate) * update * (1 - update)
            of_reset = of_candidate * inner * reset * (1 - reset)
            into[text, unit], product[text, unit] = of_reset, of_reset
            into[text, units + unit], product[text, units + unit] = of_update, of_update
            into[text, 2 * units + unit], product[text, 2 * units + unit] = of_candidate, of_candidate * reset
            passed[text, unit] = given * update
    return passed


@compiled
def _scatter(table: Floats, rows: Rows, slopes: Floats) -> None:
    for place in range(len(rows)):
        for column in range(rows.shape[1]):
            table[rows[place, column]] += slopes[place]


@compiled
def run(  # noqa: PLR0912  (in one piece: calls in its innermost loop would cost more than they do)
    table: Floats, recurrent: Floats, recurrent_bias: Floats, out: Floats, wide: Floats, rows: Rows,
    again: npt.NDArray[np.uint32], features: Rows, begins: npt.NDArray[np.int64],
) -> Floats:  # fmt: skip
    """Logits of the characters of texts, one by one; `table`: rows × (both directions' gates), the biases in shapes."""
    units = recurrent.shape[1]
    logits = np.full(len(rows), out[-1], dtype=np.float32)
    width = 3 * units
    gates, state = np.empty(width, dtype=np.float32), np.empty(units, dtype=np.float32)
    into = np.empty(width, dtype=np.float32)
    first_bit = len(table) - 2 * NUM_DISTANCES
    for text in range(len(begins) - 1):
        begin, end = begins[text], begins[text + 1]
        for way in range(2):
            state[:] = 0
            for step in range(end - begin):
                at = begin + step if way == 0 else end - 1 - step
                a, b, c, d = table[rows[at, 0]], table[rows[at, 1]], table[rows[at, 2]], table[rows[at, 3]]
                shift = way * width
                for gate in range(width):
                    into[gate] = (a[shift + gate] + b[shift + gate]) + (c[shift + gate] + d[shift + gate])
                    gates[gate] = 0
                bits = again[at]
                bit = 0
                while bits:
                    if bits & np.uint32(1):
                        for gate in range(width):
                            into[gate] += table[first_bit + bit, shift + gate]
                    bits >>= np.uint32(1)
                    bit += 1
                for unit in range(0, units, 8):
                    s0, s1, s2, s3 = state[unit], state[unit + 1], state[unit + 2], state[unit + 3]
                    s4, s5, s6, s7 = state[unit + 4], state[unit + 5], state[unit + 6], state[unit + 7]
                    w0, w1 = recurrent[way, unit], recurrent[way, unit + 1]
                    w2, w3 = recurrent[way, unit + 2], recurrent[way, unit + 3]
                    w4, w5 = recurrent[way, unit + 4], recurrent[way, unit + 5]
                    w6, w7 = recurrent[way, unit + 6], recurrent[way, unit + 7]
                    for gate in range(width):
                        low = (s0 * w0[gate] + s1 * w1[gate]) + (s2 * w2[gate] + s3 * w3[gate])
                        high = (s4 * w4[gate] + s5 * w5[gate]) + (s6 * w6[gate] + s7 * w7[gate])
                        gates[gate] += low + high
                total = np.float32(0)
                for unit in range(units):
                    reset = _gate(into[unit] + gates[unit])
                    update = _gate(into[units + unit] + gates[units + unit])
                    inner = gates[2 * units + unit] + recurrent_bias[way, unit]
                    candidate = _bent(into[2 * units + unit] + reset * inner)
                    state[unit] = candidate + update * (state[unit] - candidate)
                for unit in range(units):
                    total += state[unit] * out[way * units + unit]
                logits[at] += total
        for at in range(begin, end):
            total = np.float32(0)
            for column in range(features.shape[1]):
                if features[at, column] < 0:
                    break
                total += wide[features[at, column]]
            logits[at] += total
    return logits
