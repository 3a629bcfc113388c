"""One item ahead: the next is made while the last one is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, of which the next is made by a thread meanwhile; what is raised there is raised here, in its turn."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        source = iter(items)
        coming = thread.submit(next, source, _END)
        while (item := coming.result()) is not _END:
            coming = thread.submit(next, source, _END)
            yield item  # type: ignore[misc]
