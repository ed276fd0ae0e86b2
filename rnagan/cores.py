"""How many CPU cores are this process's share."""

import os


def own_cores() -> int:
    """Cores that this process may use, shared among those that a launcher started on this machine; at least 1."""
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // processes_here)
