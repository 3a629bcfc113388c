"""A command's own process and others that share its jobs.

Nothing heavy is imported here, so that the others load what they need while this process does. Garbage in cycles is
looked for between jobs only, and only in what a job left: in the middle of one it cost a tenth of all time. Nor is it
looked for in all that is left when the process ends, which took a third of a second.
"""

import atexit
import gc
import importlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a function with each of many jobs, in order, as `map` does: here, or in other processes."""


@contextmanager
def processes(number: int, *, at_once: bool = False) -> Iterator[Spread]:
    """Spreads jobs over `number` processes: this one and others.

    Results come in order. The others start with the first jobs that are several, or `at_once` where those will surely
    come; this process works while they are still being started.
    """
    spawn = multiprocessing.get_context("spawn")  # polars does not survive a fork
    gc.disable()
    atexit.register(gc.freeze)
    with ExitStack() as stack:
        stack.callback(gc.enable)
        stack.callback(gc.unfreeze)

        @lru_cache(maxsize=1)
        def others() -> ProcessPoolExecutor:
            made = stack.enter_context(ProcessPoolExecutor(number - 1, mp_context=spawn, initializer=_begin))
            stack.callback(made.shutdown, wait=False, cancel_futures=True)
            return made

        def spread(function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
            listed = list(jobs)
            if number == 1 or len(listed) <= 1:
                return map(partial(_do, function), listed)
            return _together(function, listed, others(), number - 1)

        for _ in range(number - 1 if at_once else 0):
            others().submit(os.getpid)
        yield spread


def _together(
    function: Callable[[Any], Any], jobs: Sequence[Any], others: ProcessPoolExecutor, num_others: int
) -> Iterator[Any]:
    """Each job's result, in order; whoever is free, here or among the others, takes the next job."""
    waiting = deque(range(len(jobs)))
    results: list[Future[Any]] = [Future() for _ in jobs]

    def feed() -> None:
        with suppress(IndexError):  # no job is left
            index = waiting.popleft()
            try:
                others.submit(_do, function, jobs[index]).add_done_callback(partial(settle, index))
            except RuntimeError as error:  # a process was killed, or the run is given up
                results[index].set_exception(error)

    def settle(index: int, sent: Future[Any]) -> None:
        if sent.cancelled():
            return
        if (error := sent.exception()) is not None:
            results[index].set_exception(error)
        else:
            results[index].set_result(sent.result())
            feed()

    for _ in range(min(num_others, len(jobs) - 1)):
        feed()
    for result in results:
        while not result.done():
            try:
                mine = waiting.popleft()
            except IndexError:
                break
            results[mine].set_result(_do(function, jobs[mine]))
        yield result.result()


def _do(function: Callable[[Any], Any], job: Any) -> Any:
    """Does a job and collects the garbage of it."""
    gc.freeze()  # what is there is not looked at again
    result = function(job)
    gc.collect()
    return result


def _begin() -> None:
    """Makes ready one of the other processes.

    It would wait for work for ever, even when whoever would send it was killed: so it ends with its parent.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    gc.disable()
    importlib.import_module("curation.command")
