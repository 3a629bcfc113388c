"""Functions as machine code: numba compiles them when first called, and keeps them on disk where it can.

Loading numba takes a quarter of a second. So modules with such functions are imported where they are used, and a few
texts are read in a plainer way: `pays` tells.
"""

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., object])
WORTHWHILE_BYTES = 1 << 18


def pays(num_bytes: int) -> bool:
    """Whether there is so much text that machine code is worth its loading."""
    return num_bytes >= WORTHWHILE_BYTES


def compiled(function: F) -> F:
    """The function as machine code."""
    return _compiled(function)


def compiled_bare(function: F) -> F:
    """The function as machine code that allocates no array.

    References to arrays are not counted then, which for small functions takes longer than all that they do.
    """
    return _opened_at_once(_compiled(function, _nrt=False))


def _compiled(function: F, **options: Any) -> F:
    import numba

    try:
        made: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable place
        made = numba.njit(**options)(function)
    return made


def _opened_at_once(function: F) -> F:
    """The function, whose machine code on disk is loaded without all that numba would need to compile it.

    Numba makes its compiler ready before it looks whether there is anything to compile, which takes 0.15 s; a function
    without numba's own memory needs none of it.
    """
    from numba.core.caching import FunctionCache

    class Cache(FunctionCache):
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]

    held = vars(function)
    if isinstance(held.get("_cache"), FunctionCache):
        held["_cache"] = Cache(held["py_func"])  # type: ignore[no-untyped-call]
    return function
