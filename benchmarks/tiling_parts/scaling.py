"""What a second process gains: ours over several slides, beside what this machine's second core gives the codec."""

import contextlib
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from shared.contenders import Contender

WORKERS = Path(__file__).parent / "workers"


def measure_scaling(
    cores: list[int],
    slide: Path,
    request: dict[str, Any],
    codec: Path | None,
    scratch: Path,
    rounds: int,
    few: int,
    many: int,
) -> dict[str, Any]:
    """Builds of copies of a slide on one process and on two, and the codec limit on one and two, in the same rounds.

    `request`: of the slide, for the codec limit; `codec`: its interpreter, or None. `few`, `many`: slides of two
    builds, whose difference is free of what starting takes.
    """
    copies = [scratch / f"copy-{number}.svs" for number in range(many)]
    for copy in copies:
        copy.unlink(missing_ok=True)
        os.link(slide, copy)
    seconds: dict[tuple[int, int], list[float]] = {(p, n): [] for p in (1, 2) for n in (few, many)}
    limits = []
    with contextlib.ExitStack() as stack:
        builders = {
            processes: stack.enter_context(
                Contender(
                    WORKERS / "run_rnagan_build.py", sys.executable, cores[:processes], scratch / f"build-{processes}"
                )
            )
            for processes in (1, 2)
        }
        pair = [
            stack.enter_context(Contender(WORKERS / "run_codec.py", codec, [k], scratch / f"codec-{k}"))
            for k in cores
            if codec
        ]
        for each in pair:
            each.ask(request)
        for number in range(rounds):
            for processes, slides in list(seconds)[:: -1 if number % 2 else 1]:
                paths = [str(copy) for copy in copies[:slides]]
                answer = (
                    builders[processes].ask({"slides": paths, "processes": processes}) if paths else {"seconds": 0.0}
                )
                seconds[processes, slides].append(answer["seconds"])
            if pair:
                limits.append(_gain_of_pair(pair, request))
    for copy in copies:
        copy.unlink()
    work = {p: [b - a for a, b in zip(seconds[p, few], seconds[p, many], strict=True)] for p in (1, 2)}
    gains = _gains(work[1], work[2])
    return {
        "scaling_2_processes": round(statistics.median(gains), 3),
        "scaling_2_processes_with_start": round(statistics.median(_gains(seconds[1, many], seconds[2, many])), 3),
        "scaling_2_processes_limit": round(statistics.median(limits), 3) if limits else None,
        "scaling": {
            "gain_by_round": [round(gain, 3) for gain in gains],
            "limit_by_round": [round(gain, 3) for gain in limits],
            "seconds": {f"{p} processes, {n} slides": [round(s, 2) for s in t] for (p, n), t in seconds.items()},
        },
    }


def _gain_of_pair(pair: list[Contender], request: dict[str, Any]) -> float:
    """Twice the work in which time: mean of each alone, over the longer of both at once."""
    alone = statistics.mean(each.ask(request)["seconds"] for each in pair)
    for each in pair:
        each.send(request)
    return 2 * alone / max([each.answer()["seconds"] for each in pair])


def _gains(one: list[float], two: list[float]) -> list[float]:
    return [a / b for a, b in zip(one, two, strict=True)]
