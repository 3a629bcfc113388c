"""What may be concluded from an experiment and what not, in sentences."""

from collections.abc import Sequence
from typing import Any

ENOUGH_SEEDS = 3
"""From so many on a sentence speaks of settings, not of runs."""
FEW_CONVERSATIONS = 30
"""Drawn anew, fewer do not say how different conversations can be."""
ROUNDED = 0.01
"""A smaller difference is told with more digits."""
MIN_REPLIES = 100
"""Fewer generated ones are too few to tell models apart."""
LANGUAGES = {"zh": "Chinese", "en": "non-Chinese"}


def conclude(report: dict[str, Any]) -> list[str]:
    """Sentences on every set of conversations, then what holds for all of them."""
    unit = "target token" if report["unit"] == "token" else "character"
    sentences = []
    for one in report["sets"]:
        where = f" of the {one['name']} set" if len(report["sets"]) > 1 else ""
        sentences += _of_lengths(one, where)
        if one["conversations"] < FEW_CONVERSATIONS:
            sentences.append(f"{one['conversations']} held-out conversations{where} are few: intervals are rough.")
        for pair in one["comparisons"]:
            sentences += _of_pair(pair, one, unit, where)
    if any(one["comparisons"] for one in report["sets"]):
        sentences += [_of_seeds(report), _of_intervals(report)]
    return sentences + _of_people(report)


def _of_lengths(one: dict[str, Any], where: str) -> list[str]:
    sentences = []
    for name, what in (("longer_history", "source lengths are"), ("longer_reply", "target lengths are")):
        found = one[name]
        if found["compared"] and not found["tested"]:
            is_history = name == "longer_history"
            has = "have a history of more" if is_history else "are longer"
            sentences.append(
                f"{found['targets']} of {one['targets']} replies{where} ({100 * found['share']:.1f} %) {has} than "
                f"{found['than']} tokens, less than 10 %: {what} not tested by this data."
            )
    return sentences


def _of_pair(pair: dict[str, Any], one: dict[str, Any], unit: str, where: str) -> list[str]:
    left, right = pair["names"]
    sides = f"{right} and {left}"
    replies = f"the {one['targets']:,} replies{where} in {one['conversations']:,} conversations"
    loss = pair["loss"]
    if loss["beyond_noise"]:
        how = "lower" if loss["difference"] < 0 else "higher"
        first = f"{right} has a {how} loss than {left} on {replies}: {_nats(loss, unit)}, beyond noise."
    else:
        first = f"On {replies}, no difference in loss between {sides} is beyond noise: {_nats(loss, unit)}."
    sentences = [first]
    if one["longer_history"]["compared"] and one["longer_history"]["targets"] and "loss_longer_history" in pair:
        parts = [
            _part(pair, "loss_longer_history", f"after more than {one['longer_history']['than']} tokens of history")
        ]
        parts.append(_part(pair, "loss_shorter_history", "after less"))
        sentences.append(f"Of these, replies {'; replies '.join(filter(None, parts))}.")
    for language, bleu in pair["bleu"].items():
        sentences.append(_of_bleu(bleu, language, sides, right, left, one))
    return sentences


def _part(pair: dict[str, Any], name: str, where: str) -> str | None:
    found = pair.get(name)
    if found is None:
        return None
    low, high = found["interval"]
    says = "beyond noise" if found["beyond_noise"] else "not beyond noise"
    return f"{where}: {signed(found['difference'])} ({signed(low)} to {signed(high)}, {says})"


def _of_bleu(bleu: dict[str, Any], language: str, sides: str, right: str, left: str, one: dict[str, Any]) -> str:
    low, high = bleu["interval"]
    told = f"{signed(bleu['difference'], 1)} ({signed(low, 1)} to {signed(high, 1)})"
    num_replies = min(run["text"].get(language, {"replies": 0})["replies"] for run in one["runs"])
    what = f"BLEU of {num_replies} {LANGUAGES[language]} replies"
    if num_replies < MIN_REPLIES:
        return f"{what} is of too few to tell {sides} apart: {told}."
    if not bleu["beyond_noise"]:
        return f"{what}: no difference between {sides} is beyond noise, {told}."
    return (
        f"{what} is {'higher' if bleu['difference'] > 0 else 'lower'} of {right} than of {left}: {told}, beyond noise."
    )


def _of_seeds(report: dict[str, Any]) -> str:
    seeds = min(pair["loss"]["seeds"] for one in report["sets"] for pair in one["comparisons"])
    if seeds < ENOUGH_SEEDS:
        count = "one seed" if seeds == 1 else f"{seeds} seeds"
        return (
            f"With {count} each, all this speaks of these runs, not of the settings: runs of other seeds differ too. "
            f"A grid with three or more values of seed would tell."
        )
    return f"With {seeds} seeds each, what is beyond noise holds over the seeds too: it speaks of the settings, here."


def _of_intervals(report: dict[str, Any]) -> str:
    pairs = max(len(one["comparisons"]) for one in report["sets"])
    together = f"for all {pairs} comparisons of a kind together " if pairs > 1 else ""
    return (
        f"Intervals are of 95 % {together}and come from drawing conversations anew; runs are compared on the same ones."
    )


def _of_people(report: dict[str, Any]) -> list[str]:
    if report.get("human") is None:
        return ["Loss and BLEU say how near replies come to those that were given, not which ones people prefer."]
    return []


def _nats(found: dict[str, Any], unit: str) -> str:
    digits = 3 if abs(found["difference"]) >= ROUNDED else 5
    low, high = (signed(value, digits) for value in found["interval"])
    told = f"{signed(found['difference'], digits)} nats a {unit} ({low} to {high}"
    if found["seeds"] < ENOUGH_SEEDS:
        return f"{told})"
    low, high = (signed(value, digits) for value in found["interval_over_seeds"])
    return f"{told} over conversations, {low} to {high} over {found['seeds']} seeds)"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def of_review(human: dict[str, Any], names: Sequence[str]) -> str:
    """What people said, once all of them are done."""
    left, right = names
    if not human["complete"]:
        told = f"{human['judgements']} judgements of {human['pairs']} pairs"
        return f"People are still comparing {left} with {right}: {told}."
    if human["win_rate"] is None:
        return f"People preferred neither {left} nor {right} in any pair."
    rate, (low, high) = human["win_rate"], human["win_rate_interval"]
    if rate < 0.5:
        left, right, rate, low, high = right, left, 1 - rate, 1 - high, 1 - low
    says = "beyond noise" if low > 0.5 or high < 0.5 else "not beyond noise"
    return (
        f"Where people preferred a side, it was {left} rather than {right} in {100 * rate:.0f} % of the "
        f"judgements ({100 * low:.0f} to {100 * high:.0f} %, {says})."
    )
