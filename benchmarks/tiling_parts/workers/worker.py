"""Serves one contender of the tiling benchmark: a request a line on stdin, an answer a line on stdout.

Runs in the environments of the peers, so it needs nothing but Python. A request is an object with `slide` (path), `out`
(an empty folder), `tiles` (level-0 corners), `tile_px`, `span_px` (level-0 pixels that a tile spans), `mpp` (of the
slide) and `option` (what else the contender is told). The answer has `seconds`, `tiles` and `core_share` (processor
time over elapsed time: well below 1, somebody else had the core), or `error`.
"""

import json
import os
import sys
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
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


def add_jpeg(tar: tarfile.TarFile, x: int, y: int, jpeg: bytes) -> None:
    """Append one tile."""
    member = tarfile.TarInfo(f"{x}_{y}.jpg")
    member.size = len(jpeg)
    tar.addfile(member, BytesIO(jpeg))
