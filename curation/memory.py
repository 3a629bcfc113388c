"""Memory that a process has freed, but not given back to the system."""

import ctypes


def give_back() -> None:
    """Gives back what the C library keeps for later.

    Worth its time between two stages of a run that need memory for different things; only glibc can be asked.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
