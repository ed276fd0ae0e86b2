"""Our step on one process of all cores, or on a process a core: the rate of the whole."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving import serve

MEMBER = Path(__file__).with_name("member.py")


def run(request: dict[str, Any]) -> dict[str, Any]:
    processes, cores = request["processes"], len(os.sched_getaffinity(0))
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(cores // processes)}
    text = json.dumps(request | {"threads": cores // processes})
    done = subprocess.run([sys.executable, *launch, str(MEMBER), text], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError(done.stderr[-300:])
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    serve(run)
