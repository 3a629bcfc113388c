"""A pipeline of datatrove, run in its own environment with its settings as JSON in the only argument."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import ahocorasick
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import C4BadWordsFilter, FastTextClassifierFilter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


class Replace(BaseFormatter):
    """Fillers and repetitions by expressions: datatrove leaves such blocks to its users."""

    name = "replace"

    def __init__(self, fillers: str, repeats: str):
        super().__init__()
        self.fillers, self.repeats = re.compile(fillers), re.compile(repeats)

    def format(self, text: str) -> str:
        return self.repeats.sub(r"\1", self.fillers.sub("", text))


class Mask(BaseFormatter):
    """Words masked by the automaton that datatrove's own filter of URLs uses."""

    name = "mask"

    def __init__(self, words: list[str]):
        super().__init__()
        self.automaton = ahocorasick.Automaton()
        for word in words:
            self.automaton.add_word(word, len(word))
        self.automaton.make_automaton()

    def format(self, text: str) -> str:
        for end, length in self.automaton.iter(text):
            text = text[: end - length + 1] + "*" * length + text[end + 1 :]
        return text


def adapt(_: JsonlReader, data: dict[str, Any], __: str, ___: int) -> dict[str, Any]:
    """A conversation as one text."""
    return {"text": "\n".join(message["content"] for message in data["messages"]), "id": data["id"], "metadata": {}}


def main() -> None:
    settings = json.loads(sys.argv[1])
    words, source = Path(settings["words"]).read_text("utf-8").split(), Path(settings["source"])
    listed = C4BadWordsFilter(keep_fraction=1.0, default_language="zh")
    listed._badwords_regex["zh"] = re.compile("|".join(map(re.escape, words)))  # its own form, without its download
    pipeline = [
        JsonlReader(str(source.parent), glob_pattern=source.name, adapter=adapt),
        Mask(words) if settings["automaton"] else listed,
        Replace(settings["fillers"], settings["repeats"]),
        FastTextClassifierFilter(settings["model"], keep_labels=("fine", 0.0), newline_replacement=" "),
        JsonlWriter(settings["out"], compression=None),
    ]
    LocalPipelineExecutor(pipeline).run()


if __name__ == "__main__":
    main()
