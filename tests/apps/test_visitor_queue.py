"""The queue before the network: the newest request of a visitor, each answered once, in turn."""

import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for

import pytest

from rnagan.apps.visitor_queue import Full, Replaced, VisitorQueue


class Stopped:
    """A queue whose thread stands still until it is released."""

    def __init__(self, most: int = 200) -> None:
        self.queue, self._go, begun = VisitorQueue(most), threading.Event(), threading.Event()
        self.queue.submit("nobody", "stands still", lambda: (begun.set(), self._go.wait(60)))
        assert begun.wait(60)

    def release(self) -> None:
        self._go.set()


def test_the_newest_request_takes_the_place_of_the_waiting_one() -> None:
    stopped, done = Stopped(), []
    first = stopped.queue.submit("a", "answer", lambda: done.append("a1"))
    other = stopped.queue.submit("b", "answer", lambda: done.append("b"))
    second = stopped.queue.submit("a", "answer", lambda: done.append("a2"))
    curve = stopped.queue.submit("a", "curve", lambda: done.append("a curve"))
    assert first.done() and not other.done()
    stopped.release()
    wait_for([other, second, curve], 60)
    assert done == ["a2", "b", "a curve"]
    with pytest.raises(Replaced):
        first.result()


def test_what_can_wait_lets_others_go_first() -> None:
    stopped, done = Stopped(), []
    later = [stopped.queue.submit("a", f"curve {k}", lambda k=k: done.append(k), soon=False) for k in range(3)]
    soon = stopped.queue.submit("b", "answer", lambda: done.append("soon"))
    stopped.release()
    wait_for([*later, soon], 60)
    assert done == ["soon", 0, 1, 2]


@pytest.mark.attack(kind=10, ends="unharmed")
def test_none_of_many_requests_at_once_is_lost_or_doubled() -> None:
    queue, done = VisitorQueue(), Counter[tuple[int, int]]()
    answers: list[tuple[tuple[int, int], Future]] = []

    def visitor(number: int) -> None:
        for request in range(200):
            name = number, request
            answers.append((name, queue.submit(str(number), "answer", lambda name=name: done.update([name]) or name)))

    threads = [threading.Thread(target=visitor, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for([answer for _, answer in answers], 60)
    kept = Counter()
    for name, answer in answers:
        assert answer.done()
        if isinstance(answer.exception(), Replaced):
            assert name not in done
        else:
            assert answer.result() == name and done[name] == 1
            kept[name[0]] += 1
    assert len(answers) == 1600 and sum(done.values()) == sum(kept.values())
    assert all((number, 199) in done for number in range(8))  # the last one of each is answered


def test_an_error_reaches_who_asked_and_nobody_else() -> None:
    queue = VisitorQueue()
    wrong = queue.submit("a", "answer", lambda: 1 // 0)
    right = queue.submit("b", "answer", lambda: 7)
    assert right.result(60) == 7
    with pytest.raises(ZeroDivisionError):
        wrong.result(60)


@pytest.mark.attack(kind=10)
def test_a_long_line_is_not_made_longer() -> None:
    stopped = Stopped(most=3)
    for visitor in "abc":
        stopped.queue.submit(visitor, "answer", time.monotonic)
    with pytest.raises(Full):
        stopped.queue.submit("d", "answer", time.monotonic)
    again = stopped.queue.submit("a", "answer", lambda: "a again")  # takes its own place
    stopped.release()
    assert again.result(60) == "a again"


def test_closing_leaves_nobody_waiting() -> None:
    stopped = Stopped()
    waiting = stopped.queue.submit("a", "answer", time.monotonic)
    stopped.release()
    stopped.queue.close()
    late = stopped.queue.submit("a", "answer", time.monotonic)
    assert waiting.done() and late.cancelled()
    with pytest.raises(CancelledError):
        late.result()
