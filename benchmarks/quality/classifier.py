"""The classifier on COLD: trained on its train part, read once on its dev part."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.quality.figures import Figure, records
from curation.classifier import evaluate
from curation.classifier_training import train_classifier


def figures() -> Iterator[Figure]:
    train, dev = (
        [(str(record["text"]), str(record["label"])) for record in records(f"cls.cold.{part}")]
        for part in ("train", "dev")
    )
    with tempfile.TemporaryDirectory() as folder:
        train_classifier(train, Path(folder) / "classifier")
        found = evaluate(Path(folder) / "classifier", dev)
    yield Figure("COLD dev: macro-F1", found["macro_f1"], 0.905)
