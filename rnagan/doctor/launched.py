"""Tries a launch config: starts a tiny program in place of the trainer and reads what its processes report."""

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch

from rnagan.doctor.findings import Section
from rnagan.doctor.launch_probe import REDUCED_BYTES
from rnagan.io.files import read_json, read_yaml

CPU_WAY = (
    "on CPUs use launch_configs/cpu_two_processes.yaml with ACCELERATE_USE_CPU=true (distributed_type MULTI_GPU "
    "and no use_cpu is not a slip), or torchrun --nproc_per_node"
)
SLOW_LATENCY_SECONDS = 0.01


@dataclasses.dataclass(frozen=True)
class LaunchConfig:
    """A launch config as it is started. `environment`: Accelerate's variables that its first line, a comment, sets."""

    path: Path
    processes: int
    machines: int
    environment: dict[str, str]
    gpus: int  # that it asks for by gpu_ids; 0 where it runs on CPUs, or on whatever is there


def read_launch_config(path: Path) -> LaunchConfig:
    """Read one; raises `ValueError` or `FileNotFoundError` where it is none."""
    stated = read_yaml(path)
    processes, machines = stated.get("num_processes"), stated.get("num_machines") or 1
    if not isinstance(processes, int) or processes < 1 or not isinstance(machines, int):
        raise ValueError(f"{path} is no launch config: num_processes and num_machines must be numbers from 1 up.")
    first = path.read_text(encoding="utf-8").splitlines()[0]
    before = first.partition("accelerate launch")[0] if first.startswith("#") else ""
    environment = dict(re.findall(r"\b(ACCELERATE_\w+)=(\S+)", before))  # no others: a stranger's file may run nothing
    on_cpu = stated.get("use_cpu") or (os.environ | environment).get("ACCELERATE_USE_CPU", "").lower() in (
        "true",
        "1",
    )
    gpus = 0 if on_cpu or stated.get("gpu_ids") is None else processes
    return LaunchConfig(path, processes, machines, environment, gpus)


def check_launch(section: Section, config: LaunchConfig, timeout: float) -> None:
    """Start it, and report what came up; what isn't done after `timeout` seconds is killed."""
    section.figures |= {"file": str(config.path), "asked": config.processes}
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.machines > 1:
        section.warn(
            f"It starts on {config.machines} machines, which is not tried from one.", "start it by its scheduler"
        )
    elif config.gpus > there:
        section.problem(
            f"It asks for {config.gpus} GPU{'s' * (config.gpus > 1)} and this machine has {there or 'none'}.",
            "start it where they are, or choose another launch config",
        )
    else:
        processes, complaint = run_probe(config, timeout)
        section.figures["processes"] = processes
        check_launched(section, config, processes, complaint)


def run_probe(config: LaunchConfig, timeout: float) -> tuple[list[dict[str, Any]], str]:
    """The reports of the processes of a launch, by rank, and the launcher's last words ('' where it ended well)."""
    with tempfile.TemporaryDirectory(prefix="rnagan-doctor-") as scratch:
        folder, log = Path(scratch) / "said", Path(scratch) / "log"
        folder.mkdir()
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config.path.resolve())]
        command += ["-m", "rnagan.doctor.launch_probe", str(folder), str(max(1, round(timeout)))]
        with open(log, "wb") as output:
            launcher = subprocess.Popen(
                command, env=os.environ | config.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
            try:
                complaint = "" if launcher.wait(timeout) == 0 else _last_words(log)
            except subprocess.TimeoutExpired:
                complaint = f"it was not done after {timeout:g} seconds and was killed"
            finally:
                end_all(launcher)
        said = sorted((read_json(path) for path in folder.glob("*.json")), key=lambda one: one["rank"])
    return said, complaint


def check_launched(section: Section, config: LaunchConfig, processes: list[dict[str, Any]], complaint: str) -> None:
    """Whether as many processes came up as were asked for, and on which devices; how fast they talk."""
    asked, came = config.processes, len(processes)
    errors = list(dict.fromkeys(one["error"] for one in processes if one["error"]))
    known = max((one["processes"] for one in processes), default=0)
    if came == 0:
        section.problem(
            f"No process of {asked} came up: {complaint or 'no reason given'}.", "start it by hand to see more"
        )
    elif came < asked and not complaint:
        section.problem(
            f"{came} of {asked} processes came up, without a word from accelerate; the trainer refuses to run so.",
            CPU_WAY,
        )
    elif known < asked and came == asked:
        section.problem(
            f"{came} processes came up that don't know of one another; the trainer refuses to run so.", CPU_WAY
        )
    elif errors or complaint:
        section.problem(f"{came} of {asked} processes came up, then: {'; '.join(errors) or complaint}.")
    else:
        section.ok(f"{came} of {asked} process{'es' * (asked > 1)} came up, on {_devices(processes)}.")
        if asked > 1:
            _check_speed(section, processes)


def _check_speed(section: Section, processes: list[dict[str, Any]]) -> None:
    n, backend = len(processes), processes[0]["backend"]
    reduce, latency = (max(one[name] for one in processes) for name in ("reduce_seconds", "latency_seconds"))
    bandwidth = REDUCED_BYTES * 2 * (n - 1) / n / reduce
    section.figures |= {
        "backend": backend,
        "all_reduce_bytes": REDUCED_BYTES,
        "all_reduce_seconds": reduce,
        "all_reduce_bytes_per_second": bandwidth,  # bytes × 2 (n − 1) / n / seconds, of each link
        "latency_seconds": latency,
    }
    speed = (
        f"{backend}: all-reduce of {REDUCED_BYTES / 1e6:g} MB float32 in {reduce * 1e3:,.1f} ms, that is "
        f"{bandwidth / 1e9:,.2f} GB/s (bytes × 2(n−1)/n / s); of 4 bytes in {latency * 1e6:,.0f} µs"
    )
    if latency > SLOW_LATENCY_SECONDS:
        section.warn(f"{speed}: slow.", "more processes than free cores? then use fewer processes, or fewer --threads")
    else:
        section.ok(f"{speed}.")


def _devices(processes: list[dict[str, Any]]) -> str:
    names = [one["name"] for one in processes]
    threads = processes[0]["threads"]
    cpu = (
        f"the CPU with {threads} thread{'s' * (threads > 1)} each" if len(names) > 1 else f"the CPU, {threads} threads"
    )
    return " and ".join(cpu if name == "CPU" else f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def _last_words(log: Path) -> str:
    """What a log ends with: its last exception, or else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip(" =-\t")]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    return (errors or lines or ["it ended without a word"])[-1].rstrip(".")


def end_all(launcher: subprocess.Popen) -> None:
    """End a launcher and all that it started, which it puts into sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(launcher.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    launcher.kill()
    launcher.wait()
