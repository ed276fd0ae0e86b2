"""Virtual environments for contenders that aren't ours, since they ask for versions that exclude each other."""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import click

# All checkouts share them.
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rnagan" / "benchmark-environments"

environments_only = click.option("--environments-only", is_flag=True, help="Only make the competitors' environments.")


def find_environments(
    requirements: dict[str, list[str]], run: SimpleNamespace, on_ours: bool = False
) -> tuple[dict[str, Path], dict[str, str]]:
    """The interpreter of each named environment, made where it isn't there; and why others can't be had.

    With `run.quick` none is looked for. With `run.environments_only` that is all: the exit code is 1 if one is missing.
    """
    if run.quick:
        return {}, dict.fromkeys(requirements, "left out by --quick")
    pythons, missing = {}, {}
    for name, packages in requirements.items():
        try:
            pythons[name] = python_of(name, packages, FOLDER, on_ours)
        except ValueError as error:
            missing[name] = str(error)
    if run.environments_only:
        for problem in missing.values():
            click.echo(problem, err=True)
        sys.exit(bool(missing))
    return pythons, missing


def python_of(name: str, requirements: list[str], folder: Path, on_ours: bool = False) -> Path:
    """The interpreter of the environment `name` under `folder`, made if it isn't there or asks for other packages.

    `on_ours`: it sees the packages of the environment that runs this too, and pip adds what they lack, which spares
    gigabytes of PyTorch. Raises `ValueError` with pip's last line where it can't be made.
    """
    version = sysconfig.get_python_version()
    home = folder / f"{name}-python{version}"
    python, ready = home / "bin" / "python", home / ".ready"
    digest = hashlib.sha256(" ".join([*requirements, str(on_ours)]).encode()).hexdigest()
    made = ready.is_file() and ready.read_text() == digest
    if not made:
        _run([sys.executable, "-m", "venv", "--clear", home], home)
    if on_ours:  # each time: another checkout may have made it
        (home / f"lib/python{version}/site-packages/ours.pth").write_text(sysconfig.get_path("purelib"))
    if not made:
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], home)
        ready.write_text(digest)
    return python


def versions_of(python: Path | str, names: Iterable[str]) -> dict[str, str]:
    """Those of the named packages that are installed."""
    code = (
        "import json, importlib.metadata as m\n"
        "found = {}\n"
        "for d in m.distributions():\n"
        "    found.setdefault((d.metadata['Name'] or '').lower(), d.version)\n"  # the first is what is imported
        f"print(json.dumps({{n: found[n.lower()] for n in {list(names)!r} if n.lower() in found}}))"
    )
    return json.loads(
        subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    )


def _run(command: list[str | Path], home: Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no message"]
        raise ValueError(f"The environment {home} can't be made: {lines[-1]}")
