"""One thread beside the main one that writes what can wait, in order."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Does jobs in a thread of its own, one after another, in the order in which they were submitted.

    `most`: how many jobs of each kind may be unfinished; another one waits for room, so that the queue doesn't grow.
    After a job has raised, later ones are left out, and whoever submits or waits gets its error.
    """

    def __init__(self, most: Mapping[str, int]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._room = {kind: threading.Semaphore(count) for kind, count in most.items()}
        self._last: Future[None] | None = None
        self._error: BaseException | None = None

    def submit(self, kind: str, job: Callable[[], None]) -> None:
        """Have a job done. Raises the error of an earlier one."""
        self._room[kind].acquire()
        if self._error is not None:
            self._room[kind].release()
            raise self._error
        self._last = self._pool.submit(self._do, kind, job)

    def wait_for_room(self, kind: str) -> None:
        """Until one more job of this kind can be submitted without waiting."""
        with self._room[kind]:
            pass

    def wait(self) -> None:
        """Until all is done. Raises the error of a job."""
        if self._last is not None:
            self._last.result()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown(wait=False)

    def _do(self, kind: str, job: Callable[[], None]) -> None:
        try:
            if self._error is None:
                job()
        except BaseException as error:  # the main thread raises it
            self._error = error
        finally:
            self._room[kind].release()
