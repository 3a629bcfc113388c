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
    return _compiled(function, _nrt=False)


def _compiled(function: F, **options: Any) -> F:
    import numba

    try:
        made: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable place
        made = numba.njit(**options)(function)
    return made
