import threading
import time

import pytest

from rnagan.runtime.background import Background


def test_jobs_are_done_in_order_beside_the_main_thread() -> None:
    background, done, go = Background({"slow": 1, "quick": 9}), [], threading.Event()
    background.submit("slow", lambda: (go.wait(10), done.append(0))[0])
    for k in (1, 2, 3):
        background.submit("quick", lambda k=k: done.append(k))
    assert done == []
    go.set()
    background.wait()
    assert done == [0, 1, 2, 3]
    background.close()


def test_a_full_queue_waits_and_does_not_grow() -> None:
    background, unfinished, most = Background({"copies": 2}), set[int](), []

    def job(k: int) -> None:
        time.sleep(0.02)
        unfinished.discard(k)

    for k in range(8):
        background.wait_for_room("copies")
        unfinished.add(k)
        background.submit("copies", lambda k=k: job(k))
        most.append(len(unfinished))
    background.close()
    assert max(most) == 2 and not unfinished


def test_an_error_is_raised_where_the_next_job_comes_and_later_ones_are_left_out() -> None:
    background, done, failed = Background({"rows": 3}), [], threading.Event()

    def fails() -> None:
        failed.wait(10)
        raise OSError("disk full")

    background.submit("rows", fails)
    background.submit("rows", lambda: done.append("after it"))
    failed.set()
    with pytest.raises(OSError, match="disk full"):
        background.wait()
    for _ in range(5):  # more than there is room for: nobody waits for it
        with pytest.raises(OSError, match="disk full"):
            background.submit("rows", lambda: done.append("later"))
    with pytest.raises(OSError, match="disk full"):
        background.close()
    assert done == []
