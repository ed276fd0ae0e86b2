"""A wheel, installed into an environment of its own, runs the whole demonstration from another folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = re.compile(r"warning|deprecat|site-packages|\d\d:\d\d:\d\d|\b(DEBUG|INFO|NOTICE|ERROR)\b", re.IGNORECASE)
SOURCES = ("rnagan", "setup.py", "pyproject.toml", "README.md")


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """A command that succeeds, and what it printed. Neither this project's folder nor this environment's programs are
    on its paths."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PATH": os.defpath}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel, and finds all else in this one's packages."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, source, cwd=place)
    (wheel,) = place.glob("rnagan-*.whl")
    venv.create(place / "environment", symlinks=True)
    programs = place / "environment/bin"
    run(*pip, "--python", programs / "python", "install", "--no-deps", wheel, cwd=place)
    own = run(
        programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place
    ).stdout.strip()
    (Path(own) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")  # behind its own
    return programs


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(900)
def test_the_wheel_holds_all_that_the_commands_need(installed: Path, tmp_path: Path) -> None:
    place = run(installed / "python", "-c", "import rnagan; print(rnagan.__file__)", cwd=tmp_path).stdout.strip()
    assert Path(place).is_relative_to(installed.parent)
    assert "build-tiles" in run(installed / "rnagan", "--help", cwd=tmp_path).stdout
    assert "paper_lung_rnagan" in run(installed / "rnagan", "train-rnagan", "--help", cwd=tmp_path).stdout
    packaged = {path.relative_to(ROOT / "rnagan") for path in (ROOT / "rnagan").rglob("*.*")}
    packaged = {path for path in packaged if path.suffix in (".py", ".yaml", ".html", ".css", ".js", ".typed")}
    assert packaged <= {path.relative_to(Path(place).parent) for path in Path(place).parent.rglob("*.*")}


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(900)
def test_the_demonstration_runs_from_a_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "rnagan", "demo", "--scale", "toy", cwd=tmp_path)
    # One in a hundred held-out profiles is beyond the limits that they themselves set.
    assert [line for line in done.stderr.splitlines() if " are unlike the training profiles (" not in line] == []
    assert [line for line in done.stdout.splitlines() if LIBRARY.search(line)] == []
    report = tmp_path / "runs/demo/report.html"
    assert f"Report: {report.relative_to(tmp_path)}" in done.stdout and report.stat().st_size > 10_000
    assert (tmp_path / "shards/data/demo/tiles/dataset.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "shards"}
