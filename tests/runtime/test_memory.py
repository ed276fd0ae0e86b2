import resource

import numpy as np

from rnagan.runtime.memory import keep_freed_memory


def test_freed_memory_is_used_again() -> None:
    keep_freed_memory()
    np.ones(50_000_000)  # the first takes fresh pages
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(50_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 50_000_000 * 8 / 4096
