import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rnagan.doctor.findings import Section, Verdict
from rnagan.doctor.machine import (
    GPU,
    Machine,
    _cpu_quota,
    check_backends,
    check_cpu,
    check_gpus,
    check_machine,
    find_machine,
)
from rnagan.training.launch import resolve_precision

H100 = GPU("NVIDIA H100", 85.0, 84.0, "9.0", True)
NODE = Machine("EPYC", 8, 16, None, True, "13.0", "", True, (H100, H100), {"gloo": True, "nccl": True, "mpi": False})


def findings_of(check, machine: Machine) -> list[tuple[Verdict, str]]:
    section = Section("Processors")
    check(section, machine)
    return [(line.verdict, line.text) for line in section.lines]


def test_this_machine() -> None:
    section = Section("Processors")
    check_machine(section)
    json.dumps(section.figures)
    assert section.figures["cores"] == len(os.sched_getaffinity(0))
    assert section.figures["auto_precision"] == resolve_precision("auto")
    assert len(section.figures["gpus"]) == torch.cuda.device_count()
    assert 0 <= section.figures["busy_share"] <= 1
    assert find_machine().backends["gloo"]
    assert not any(line.verdict == Verdict.PROBLEM for line in section.lines)


def test_gpus_of_a_kind_are_one_line() -> None:
    ((verdict, text),) = findings_of(check_gpus, NODE)
    assert verdict == Verdict.OK and text.startswith("2 × NVIDIA H100, 85 GB, compute capability 9.0, bf16")
    used = findings_of(check_gpus, replace(NODE, gpus=(H100, replace(H100, free_gb=20.0))))
    assert used[0] == (Verdict.WARNING, "GPU 1, NVIDIA H100: 20 of 85 GB are free.") and used[1][1] == text
    broken = replace(NODE, gpus=(H100, replace(H100, name="Old", error="no kernel image")))
    assert [verdict for verdict, _ in findings_of(check_gpus, broken)] == [Verdict.PROBLEM, Verdict.OK]


@pytest.mark.parametrize(
    ("machine", "verdict", "named"),
    [
        (replace(NODE, gpus=(), torch_cuda=None), Verdict.WARNING, "without CUDA"),
        (replace(NODE, gpus=(), cuda_error="driver too old"), Verdict.WARNING, "driver too old"),
        (replace(NODE, gpus=(), nvidia=False), Verdict.NOTE, "No GPU"),
    ],
)
def test_why_there_is_no_gpu(machine: Machine, verdict: Verdict, named: str) -> None:
    ((found, text),) = findings_of(check_gpus, machine)
    assert found == verdict and named in text


def test_a_container_that_may_use_less_than_its_cores(tmp_path: Path) -> None:
    assert [verdict for verdict, _ in findings_of(check_cpu, NODE)] == [Verdict.OK]
    assert findings_of(check_cpu, replace(NODE, cpu_quota=2.0))[1][0] == Verdict.WARNING
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert _cpu_quota(tmp_path / "cpu.max") == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert _cpu_quota(tmp_path / "cpu.max") is None and _cpu_quota(tmp_path / "nowhere") is None


def test_backends() -> None:
    assert [verdict for verdict, _ in findings_of(check_backends, NODE)] == [Verdict.OK]
    without = replace(NODE, backends={"gloo": True, "nccl": False, "mpi": False})
    assert findings_of(check_backends, without)[0][0] == Verdict.PROBLEM
    assert findings_of(check_backends, replace(without, gpus=()))[0][0] == Verdict.OK
