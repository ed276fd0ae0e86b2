"""A machine with a GPU that isn't there: libraries that say so, compiled with gcc, and how a process sees them.

Nothing is computed in such a process: tensors are PyTorch's fake ones, which have shapes, dtypes, devices and memory
formats, and go through the same operations as real ones.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def what_is_missing() -> str | None:
    """Why no process can see a fake GPU here; None where one can."""
    if shutil.which("gcc") is None:
        return "a fake GPU needs gcc, which compiles the libraries that say it is there"
    if _runtime_of_torch() is None:
        return "a fake GPU needs a PyTorch that was built for CUDA"
    return None


def measure(cases: list[dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """What the steps of `cases` (steps.py) do on a GPU, by name; libraries are compiled into `folder`.

    Raises `ChildProcessError` with what it said where one failed.
    """
    command = [sys.executable, "-X", "faulthandler", HERE / "steps.py"]
    given, environment = json.dumps(cases), _environment(folder)
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ChildProcessError(done.stderr[-3000:])
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {one.pop("name"): one for one in map(json.loads, lines)}


def _environment(folder: Path) -> dict[str, str]:
    """Of a process that sees a GPU and computes on one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    runtime, script = _runtime_of_torch(), folder / "cudart.map"
    assert runtime is not None, what_is_missing()
    script.write_text((HERE / "cudart.map").read_text().replace("@major@", runtime))
    _compile(HERE / "cudart.c", folder / "libfakecudart.so", f"--version-script={script}")
    _compile(HERE / "driver.c", folder / "libcuda.so.1", "-soname=libcuda.so.1")
    return os.environ | {
        "LD_PRELOAD": str(folder / "libfakecudart.so"),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")])),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "0",
    }


def _compile(source: Path, library: Path, option: str) -> None:
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-Xlinker", option], check=True)


def _runtime_of_torch() -> str | None:
    """The major version of the CUDA runtime that PyTorch is linked to, read from its library without an import."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return None
    library = Path(found.submodule_search_locations[0]) / "lib" / "libc10_cuda.so"
    if not library.is_file():
        return None
    named = re.search(rb"libcudart\.so\.(\d+)", library.read_bytes())
    return named[1].decode() if named else None
