"""Makes a configuration type known to `transformers`, without loading that: it takes seconds and brings torch.

Registering wants the class, and the class wants `transformers`. So it waits until somebody loads the module that knows
all configurations. The model of a configuration registers itself when the first such configuration is made.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CONFIGURATIONS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"
OURS = "trainer.structure.alibi_config"


def register_when_loaded() -> None:
    """Registers now if `transformers` has loaded its configurations, else as soon as it does."""
    if CONFIGURATIONS in sys.modules:
        import_module(OURS)
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting:
    """Finds two modules as Python itself would, and loads ours behind the one that is asked for first."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (CONFIGURATIONS, MODELS):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_both(module: ModuleType) -> None:
            execute(module)
            if fullname == MODELS or MODELS not in sys.modules:  # else that one is being loaded, and needed by ours
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                import_module(OURS)

        spec.loader.exec_module = execute_both  # type: ignore[method-assign]
        return spec
