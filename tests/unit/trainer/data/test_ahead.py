"""The next item is made while the last one is used; errors come in their turn."""

import threading
from collections.abc import Iterator

import pytest

from trainer.data.ahead import one_ahead


def test_items_come_in_order_and_one_ahead() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for index, event in enumerate(made):
            event.set()
            yield index

    stream = one_ahead(items())
    assert next(stream) == 0
    assert made[1].wait(10)
    assert not made[2].wait(0.05), "one ahead, not two"
    assert list(stream) == [1, 2, 3]


def test_an_error_comes_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("a file is damaged")

    stream = one_ahead(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(OSError, match="damaged"):
        next(stream)


def test_a_stream_that_is_left_ends_its_thread() -> None:
    before = threading.active_count()
    stream = one_ahead(iter(range(100)))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
