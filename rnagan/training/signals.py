"""Stopping a run on SIGTERM or SIGUSR1, all processes at the same step."""

import signal
from types import FrameType
from typing import Self

import torch
from accelerate import Accelerator

STEPS_BETWEEN_CHECKS = 16  # asking all processes costs a round of messages


class StopSignal:
    """Notes the signals that schedulers send before they kill; use in a `with` block around the steps of a run."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._asked = accelerator, False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGUSR1)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_set(self, steps: int) -> bool:
        """Whether any process got a signal; asked of all of them, so that they stop after the same step."""
        if self._accelerator.num_processes == 1:
            return self._asked
        if steps % STEPS_BETWEEN_CHECKS:
            return False
        flag = torch.tensor(float(self._asked), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, "sum").item())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
