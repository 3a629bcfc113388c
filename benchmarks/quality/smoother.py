"""A trained smoother: learned from CS2W's train part, measured on its validation part and on text that needs nothing."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.quality.figures import CLEAN, Figure, records, turns
from benchmarks.quality.smoothing import END, INTERJECTIONS
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth_texts
from curation.smoother import Smoother
from curation.smoother_training import evaluate, smoothed, train_smoother

MEANT = (
    "我天天加班", "你看看这个", "研究研究再说", "好好好，没问题", "慢慢来不着急", "谢谢谢谢", "咱们聊聊天", "考虑考虑吧", "妈妈给爸爸打电话",
    "常常去的那个店", "非常非常好", "一个一个来", "高高兴兴上班", "试试看", "刚刚好", "星星很亮", "他们家家户户都有", "人人都知道", "想想办法", "等等我",
)  # fmt: skip
"""What is doubled on purpose."""


def figures() -> Iterator[Figure]:
    pairs = {
        part: [(str(record["spoken"]), str(record["written"])) for record in records(f"s2w.cs2w.{part}")]
        for part in ("train", "val")
    }
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "smoother"
        began = time.process_time()
        train_smoother(pairs["train"], folder, holdout=0.02)
        yield Figure("smoother: training on CS2W, CPU seconds", time.process_time() - began)
        found, smoother = evaluate(folder, pairs["val"]), Smoother.load(folder)
    for name, bar in (("exact_match", 0.63), ("precision", 0.88), ("recall", 0.70)):
        yield Figure(f"smoother, CS2W val: {name}", found[f"only_left_out_{name}"], bar)
    for name in CLEAN:
        said = [text.lstrip("".join(INTERJECTIONS) + END) for text in turns(name)]
        edits = smooth_texts(said, SmoothDisfluency(), smoother)
        edited = sum(any(edit[3] != "grammar" for edit in mine) for mine in edits)
        yield Figure(f"smoother, {name}: turns smoothed", edited / len(said), 0.01, at_most=True)
    broken = sum(text != ours for text, ours in zip(MEANT, smoothed(MEANT, smoother), strict=True))
    yield Figure(f"smoother: of {len(MEANT)} texts doubled on purpose, broken", broken, 0, at_most=True)
    texts = [spoken for part in pairs.values() for spoken, _ in part]
    votes = [np.zeros(len(text), dtype=np.uint8) for text in texts]
    began = time.process_time()
    smoother.logits(texts, votes)
    speed = sum(len(text.encode()) for text in texts) / 1e6 / (time.process_time() - began)
    yield Figure("smoother: distinct texts, MB a CPU second", speed, 1.0)
