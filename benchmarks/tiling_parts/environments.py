"""A virtual environment for each contender that isn't ours, since they ask for versions that exclude each other."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {
    "published": ["openslide-python>=1.4", "openslide-bin", "scikit-image", "scipy", "lmdb"],
    # PyTurboJPEG 2 wants a libjpeg-turbo 3, which Debian 12 and Ubuntu 24.04 don't have.
    "codec": ["simplejpeg", "imagecodecs", "PyTurboJPEG<2", "tifffile", "opencv-python-headless", "setuptools"],
    "hs2p": ["hs2p[openslide,tifffile]>=6.1,<7", "PyTurboJPEG<2", "pyvips[binary]"],
    "tiatoolbox": ["tiatoolbox>=2"],
    "histolab": ["histolab>=0.7", "openslide-bin", "setuptools<81"],
}


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of the environment `name` under `folder`, made if it isn't there or asks for other packages.

    Raises `ValueError` with pip's last line where it can't be made.
    """
    home = folder / name
    python, ready = home / "bin" / "python", home / ".ready"
    digest = hashlib.sha256(" ".join(REQUIREMENTS[name]).encode()).hexdigest()
    if ready.is_file() and ready.read_text() == digest:
        return python
    commands = (
        [sys.executable, "-m", "venv", home],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[name]],
    )
    for command in commands:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["no message"]
            raise ValueError(f"The environment {home} can't be made: {lines[-1]}")
    ready.write_text(digest)
    return python


def versions_of(python: Path | str) -> dict[str, str]:
    """Installed packages that decide speed."""
    names = "hs2p tiatoolbox histolab openslide-python openslide-bin tifffile imagecodecs PyTurboJPEG simplejpeg pyvips"
    names += " pillow numpy scikit-image lmdb opencv-python-headless rnagan"
    code = (
        "import json, importlib.metadata as m\n"
        f"found = {{d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name']}}\n"
        f"print(json.dumps({{n: found[n.lower()] for n in {names.split()!r} if n.lower() in found}}))"
    )
    return json.loads(
        subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    )
