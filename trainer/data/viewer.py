"""`talkmill train CONFIG.json --show N`: the first samples of a run, packed as rows, with what is learned marked.

On a terminal learned tokens are green; elsewhere they stand between ⟦ and ⟧. Nothing is trained but the tokenizer of a
model from scratch, which is kept for the run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import ConfigError, TrainConfig, load_config
from trainer.data.packing import pack
from trainer.data.version import DatasetVersion, check_bounds, open_version
from trainer.dialogues import DialogueError, EncodedRow, Lengths, Window, encode_window, make_windows
from trainer.launcher import open_tokenizer


@dataclass(frozen=True)
class Sample:
    """A window of a conversation and its tokens; or why there are none."""

    conversation: str
    window: Window | None = None
    row: EncodedRow | None = None
    refusal: str | None = None
    cut_before: tuple[int, ...] = ()
    """Turns of the window whose end was missing already."""


def show(config_path: Path, num_samples: int, console: Console) -> None:
    """Prints the first samples.

    Raises:
        ConfigError: the settings, the version or the base cannot be used.
    """
    config = load_config(config_path)
    version = open_version(config.data.version)
    check_bounds(version, config.data.max_source_length, config.data.max_target_length)
    with TemporaryDirectory() as folder:
        chat = open_tokenizer(config, version, Path(folder))
    console.print(
        f"template: {'its own' if chat.has_own_template else 'ChatML'}, {chat.vocab_size} token ids", style="dim"
    )
    if chat.default_system is not None:
        console.print("the template adds a system prompt of its own, which counts as source", style="dim")
    shown = list(islice(samples(config, version, chat), num_samples))
    if not shown:
        raise ConfigError(f"data.where: no conversation of the version is {', '.join(config.data.where) or 'there'}")
    trained = [(sample, sample.row) for sample in shown if sample.row is not None and sample.row.ids]
    rows = pack([len(row.ids) for _, row in trained], config.row_tokens if config.data.packing else None)
    for number, places in enumerate(rows, 1):
        held = sum(len(trained[place][1].ids) for place in places)
        parts = f"{len(places)} sample{'s' * (len(places) > 1)}, {held} tokens, {config.row_tokens - held} of padding"
        console.rule(f"row {number}: {parts}", align="left")
        for sample, row in (trained[place] for place in sorted(places)):
            console.print(f"{sample.conversation}: {_summary(sample)}", style="dim", markup=False)
            console.print(marked(chat, row, is_coloured=console.is_terminal), soft_wrap=True)
    for sample in shown:
        if sample.row is None or not sample.row.ids:
            console.print(f"{sample.conversation}: {_summary(sample)}", style="dim", markup=False)


def samples(config: TrainConfig, version: DatasetVersion, chat: ChatTokenizer) -> Iterator[Sample]:
    """The version's samples, in its order."""
    data = config.data
    lengths = Lengths(data.max_source_length, data.max_target_length, data.min_history_ratio)
    for conversation in version.conversations(data.where):
        if data.targets == "last" and conversation.has_later_window:
            continue
        try:
            for window in make_windows(chat, conversation.messages, lengths, targets=data.targets):
                row = encode_window(chat, window.messages, data.max_target_length)
                before = tuple(turn for turn in window.turns if conversation.messages[turn].get("cut"))
                yield Sample(conversation.id, window, row, cut_before=before)
        except DialogueError as error:
            yield Sample(conversation.id, refusal=str(error))


def marked(chat: ChatTokenizer, row: EncodedRow, *, is_coloured: bool) -> Text:
    """The text of a sample's tokens, special ones included, with the learned ones marked."""
    text = Text()
    for is_learned, run in groupby(zip(row.ids, row.is_target, strict=True), key=lambda pair: pair[1]):
        said = chat.tokenizer.decode([token for token, _ in run], skip_special_tokens=False)
        if not is_learned:
            text.append(said, style="dim" if is_coloured else "")
        else:
            text.append(said if is_coloured else f"⟦{said}⟧", style="bold green" if is_coloured else "")
    return text


def _summary(sample: Sample) -> str:
    if sample.window is None or sample.row is None:
        return f"left out: {sample.refusal}"
    row, window = sample.row, sample.window
    if not row.ids:
        return "left out: no token of it is learned"
    parts = [f"{len(row.ids)} tokens, {sum(row.is_target)} learned", f"turns {_ranges(window.turns)}"]
    parts += [
        f"turn {cut.turn} without its {'first' if cut.start == 0 else 'last'} {cut.end - cut.start} characters"
        for cut in window.cuts
    ]
    parts += [f"turn {turn} cut by curation" for turn in sample.cut_before]
    return "; ".join(parts)


def _ranges(turns: tuple[int, ...]) -> str:
    """Consecutive turns told by the first and the last: 0, 4-9."""
    runs = [[turn for _, turn in run] for _, run in groupby(enumerate(turns), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
