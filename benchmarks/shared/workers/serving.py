"""Serves one contender of a benchmark: a request a line on stdin, an answer a line on stdout.

Runs in the environments of the peers, so it needs nothing but Python. A request is an object, with `out` (an empty
folder) among what each benchmark asks. The answer has `seconds` and `core_share` (this process's processor time over
elapsed time), where it doesn't tell its own, and what else the benchmark wants, or `error`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Request = dict[str, Any]


def serve(run: Callable[[Request], dict[str, Any]]) -> None:
    """Answer requests until stdin ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        began, worked = time.perf_counter(), time.process_time()
        try:
            answer = run(request)
            seconds = time.perf_counter() - began
            answer = {"seconds": seconds, "core_share": (time.process_time() - worked) / seconds} | answer
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)
