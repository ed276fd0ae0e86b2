"""The queue before the network: one thread works, and a visitor's newest request replaces the one that still waits."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Replaced(Exception):  # noqa: N818
    """A newer request of the same visitor took the place of this one before it was begun."""


class Full(Exception):  # noqa: N818
    """So many visitors wait that no more are taken."""


class _Waiting(NamedTuple):
    job: Callable[[], Any]
    answer: Future[Any]


class VisitorQueue:
    """Does jobs in one thread, those of `soon` before all others, else in the order in which visitors came.

    Each request ends in exactly one way: the job's result or error, `Replaced`, `Full`, or cancelled where the queue is
    closed. A request of a visitor and kind that waits already takes its place in the line, so nobody is served twice
    as often by asking twice as fast. `most`: requests that may wait.
    """

    def __init__(self, most: int = 200) -> None:
        self._lines: tuple[OrderedDict[Any, _Waiting], ...] = (OrderedDict(), OrderedDict())
        self._changed, self._most, self._closed = threading.Condition(), most, False
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, visitor: str, kind: str, job: Callable[[], T], soon: bool = True) -> Future[T]:
        """Have `job` done for a visitor; a request of theirs and of this kind that still waits raises `Replaced`."""
        line, answer = self._lines[0 if soon else 1], Future[T]()
        with self._changed:
            if self._closed:
                answer.cancel()
                return answer
            older = line.get((visitor, kind))
            if older is None and sum(map(len, self._lines)) >= self._most:
                raise Full
            line[visitor, kind] = _Waiting(job, answer)
            self._changed.notify()
        if older is not None and older.answer.set_running_or_notify_cancel():
            older.answer.set_exception(Replaced())
        return answer

    def close(self) -> None:
        """Cancel what waits, and end the thread after the job that it does."""
        with self._changed:
            self._closed = True
            left = [waiting for line in self._lines for waiting in line.values()]
            for line in self._lines:
                line.clear()
            self._changed.notify()
        for waiting in left:
            waiting.answer.cancel()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or any(self._lines))
                if self._closed:
                    return
                _, (job, answer) = next(line for line in self._lines if line).popitem(last=False)
            if not answer.set_running_or_notify_cancel():
                continue  # who asked has left
            try:
                answer.set_result(job())
            except BaseException as error:  # who asked raises it
                answer.set_exception(error)
