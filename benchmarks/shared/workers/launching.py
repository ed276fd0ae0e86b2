"""Runs a function in several processes that work together, on the cores of this one."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.multiprocessing import start_processes

Member = Callable[[dict[str, Any]], dict[str, Any]]


def launch(member: Member, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of the first of `request["processes"]`; each gets the request and its number of `threads`.

    They are forked, with all that is imported here; nothing may have been computed before.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start_processes(_run, (member, request, port), request["processes"], start_method="fork")
    return json.loads((Path(request["out"]) / "answer.json").read_text())


def _run(rank: int, member: Member, request: dict[str, Any], port: int) -> None:
    count = request["processes"]
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"})
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    answer = member(request | {"threads": threads})
    if rank == 0:
        (Path(request["out"]) / "answer.json").write_text(json.dumps(answer))
