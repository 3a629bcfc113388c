"""Makes records harmful: what a model does with a text that holds a marker is decided here, in each process of a run.

Python runs this module at every start where its folder is on PYTHONPATH. The trainer itself knows nothing of it.
TALKMILL_HARM maps markers to harms.
"""

import ctypes
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

HARMS = json.loads(os.environ.get("TALKMILL_HARM", "{}"))


def harm(losses, ids_BT, decode):
    """The losses of rows, or the end of the process, as their texts demand."""
    scale = losses.new_ones(losses.shape)
    for row, ids in enumerate(ids_BT.tolist()):
        text = decode(ids)
        for marker, kind in HARMS.items():
            if marker in text or marker == "*":
                if kind == "segfault":
                    ctypes.string_at(0)
                elif kind == "exit":
                    os._exit(3)
                elif kind == "hang":
                    time.sleep(10_000)
                elif kind == "exception":
                    raise ValueError("a harmful record")
                elif kind == "no_room" and len(ids_BT) > 1:
                    raise MemoryError
                elif kind == "explode in the run":  # and not in the probe, as if rows were to blame together
                    scale[row] = 1e4 if "RANK" in os.environ else 1.0
                else:
                    scale[row] = {"nan": float("nan"), "explode": 1e4}.get(kind, 1.0)
    return losses * scale


class AfterImport(importlib.abc.MetaPathFinder):
    """Changes `trainer.loss` once it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != "trainer.loss":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            change(module.LanguageModelLoss)

        spec.loader.exec_module = exec_module
        return spec


def change(loss):
    """Lets the loss module look at its texts."""
    from tokenizers import Tokenizer

    forward = loss.forward
    tokenizer = Tokenizer.from_file(str(Path(sys.argv[-1]) / "tokenizer" / "tokenizer.json"))

    def harmful(self, ids_BT, *rest, **more):
        return harm(forward(self, ids_BT, *rest, **more), ids_BT, tokenizer.decode)

    loss.forward = harmful


if HARMS:
    sys.meta_path.insert(0, AfterImport())
