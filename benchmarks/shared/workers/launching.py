"""Runs `member.py` of a benchmark in several processes that work together, on the cores of this one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def launch(member: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the first of `request["processes"]`; each gets the request and its number of `threads`."""
    processes = request["processes"]
    threads = len(os.sched_getaffinity(0)) // processes
    program = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", str(member)]
    done = subprocess.run(
        [sys.executable, *program, json.dumps(request | {"threads": threads})],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise ValueError(done.stderr[-300:])
    return json.loads(done.stdout.splitlines()[-1])
