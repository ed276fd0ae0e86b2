"""Checks of a GPU: one that fails, hangs or lacks a package leaves the others as they are; all of them run on a CPU."""

import importlib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from rnagan.commands.gpu_check import main
from rnagan.doctor.gpu import gan_steps, session
from rnagan.doctor.gpu.catalogue import CHECKS, Check, Place
from rnagan.doctor.gpu.session import Session, passed, with_what_they_need
from rnagan.io.files import read_json

MACHINE = Check("machine", "hardware.machine", 60)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks set the variable for their own process, which here is the tests'."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def test_what_goes_wrong_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that the process doesn't know ends it, one is too slow, one lacks a package, one what it needs."""
    checks = (
        Check("unknown", "hardware.machine", 60),
        Check("finite", "gan_steps.finite", 0.01),
        Check("lonely", "hardware.machine", 60, packages=("surely_not_installed",)),
        Check("late", "hardware.machine", 60, after=("unknown",)),
        Check("copies", "hardware.copies", 60, gpu_only=True),
        MACHINE,
    )
    monkeypatch.setattr(session, "CHECKS", checks)
    seen: list[dict[str, str]] = []

    def say(line: str) -> None:
        written = read_json(tmp_path / "gpu.json")["checks"]
        seen.append({name: one["status"] for name, one in written.items()})

    found = Session("cpu", True, tuple(check.name for check in checks), 5).run(tmp_path / "gpu.json", say)
    expected = {
        "unknown": "failed",
        "finite": "too long",
        "lonely": "left out",
        "late": "left out",
        "copies": "left out",
        "machine": "ok",
    }
    assert seen[-1] == expected and [len(one) for one in seen] == [1, 2, 3, 4, 5, 6]
    checks_found = found["checks"]
    assert (
        checks_found["unknown"]["why"] == "it ended with 1" and "StopIteration" in checks_found["unknown"]["said"][-1]
    )
    assert checks_found["lonely"]["why"] == "surely_not_installed isn't installed"
    assert checks_found["late"]["why"] == "it needs what unknown makes"
    assert checks_found["machine"]["found"]["torch"] == torch.__version__
    assert not passed(found) and passed({"checks": {"machine": checks_found["machine"]}})
    assert list(tmp_path.iterdir()) == [tmp_path / "gpu.json"]


def test_what_has_no_time_left_is_left_out(tmp_path: Path) -> None:
    found = Session("cpu", True, ("machine", "equality"), 0.001).run(tmp_path / "gpu.json", lambda line: None)
    assert {one["why"] for one in found["checks"].values()} == {"no time is left; see --minutes"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--out", str(tmp_path / "gpu.json")])
    assert done.exit_code == 1 and done.output.startswith("Error: PyTorch sees no GPU on this machine")
    assert len(done.output.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_checks_are_there_and_those_that_others_need_come_before() -> None:
    for check in CHECKS:
        module, _, function = check.function.partition(".")
        assert callable(getattr(importlib.import_module(f"rnagan.doctor.gpu.{module}"), function))
    assert with_what_they_need(["fid"]) == ("data", "run", "fid")
    assert with_what_they_need([]) == tuple(check.name for check in CHECKS)
    done: set[str] = set()
    for check in CHECKS:
        assert set(check.after) <= done
        done.add(check.name)


@pytest.mark.slow
def test_a_difference_to_the_cpu_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equality fails where the device's losses are off by a thousandth in float64."""
    monkeypatch.setattr(gan_steps, "PRESETS", ("wgan_gp",))
    place, right = Place("cpu", True, tmp_path), gan_steps.losses
    summary, found = gan_steps.equality(place)
    assert summary == "apart from the CPU: float64 0.0e+00, float32 0.0e+00" and len(found) == 2
    calls: list[str] = []

    def wrong(config: gan_steps.GANConfig, device: str) -> list[float]:
        calls.append(device)
        return [figure * (1 + 1e-3 * (len(calls) % 2 == 0)) for figure in right(config, device)]

    monkeypatch.setattr(gan_steps, "losses", wrong)
    with pytest.raises(AssertionError, match=r"wgan_gp in float64 is .* from the CPU's losses; 1e-06 is allowed"):
        gan_steps.equality(place)


def test_a_variant_is_measured_against_the_plain_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a variant without the penalty's saving; compiling takes minutes on a CPU."""
    monkeypatch.setattr(gan_steps, "VARIANTS", {"every tile pays": {"penalty_every": 1}})
    summary, found = gan_steps.variants(Place("cpu", True, tmp_path))
    ratio = found["every tile pays"]["images_per_second"] / found["plain"]["images_per_second"]
    assert found["every tile pays"]["ratio"] == pytest.approx(ratio) and summary == f"every tile pays {ratio:.2f} times"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_all_checks_run_on_a_cpu(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--device", "cpu", "--minutes", "45", "--out", str(tmp_path / "gpu.json")])
    checks = read_json(tmp_path / "gpu.json")["checks"]
    assert done.exit_code == 0, f"{done.output}\n{checks}"
    ran = {name for name, one in checks.items() if one["status"] == "ok"}
    assert {check.name for check in CHECKS} - ran == {check.name for check in CHECKS if check.gpu_only}
    assert checks["run"]["found"]["images"] == checks["run"]["found"]["stopped_at_images"] + 64
