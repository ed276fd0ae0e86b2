"""How much a visitor may ask for: buckets of requests, which fill up again with time."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

Clock = Callable[[], float]  # seconds


class Buckets:
    """A bucket of `burst` requests (0: those of six seconds) for each key, refilled at `rate` a second. At most `keys`
    are kept, the least recent forgotten first. `clock`: seconds, for tests."""

    def __init__(self, rate: float, burst: int = 0, keys: int = 10_000, clock: Clock = time.monotonic) -> None:
        self._rate, self._burst, self._keys, self._clock = rate, burst or int(6 * rate), keys, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, and when that was
        self._lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Take a request of a key; False where there is none left."""
        with self._lock:
            left = self._now(key)
            self._left[key] = (left - (left >= 1), self._clock())
            self._left.move_to_end(key)
            if len(self._left) > self._keys:
                self._left.popitem(last=False)
            return left >= 1

    def is_empty(self, key: str) -> bool:
        """Whether a key has no request left; takes none."""
        with self._lock:
            return self._now(key) < 1

    def _now(self, key: str) -> float:
        left, since = self._left.get(key, (float(self._burst), self._clock()))
        return min(left + (self._clock() - since) * self._rate, float(self._burst))
