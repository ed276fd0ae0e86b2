"""A virtual environment for contenders that aren't ours, since they ask for versions that exclude each other."""

import hashlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path


def python_of(name: str, requirements: list[str], folder: Path, on_ours: bool = False) -> Path:
    """The interpreter of the environment `name` under `folder`, made if it isn't there or asks for other packages.

    `on_ours`: it sees the packages of the environment that runs this too, and pip adds what they lack, which spares
    gigabytes of PyTorch. Raises `ValueError` with pip's last line where it can't be made.
    """
    home = folder / name
    python, ready = home / "bin" / "python", home / ".ready"
    ours = [sysconfig.get_path("purelib")] if on_ours else []
    digest = hashlib.sha256(" ".join(requirements + ours).encode()).hexdigest()
    if ready.is_file() and ready.read_text() == digest:
        return python
    _run([sys.executable, "-m", "venv", "--clear", home], home)
    for path in ours:
        (home / f"lib/python{sysconfig.get_python_version()}/site-packages/ours.pth").write_text(path)
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
