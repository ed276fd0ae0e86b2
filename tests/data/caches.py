"""What the tests of the cache and of remote folders share: looking into a cache, and processes that use one."""

import itertools
import subprocess
import sys


def on_disk(cache):
    """Bytes of whole pages of all that a cache keeps, finished or not."""
    total = 0
    for path in itertools.chain(cache.folder.glob("blocks/*/*"), cache.folder.glob("incoming/*")):
        try:
            total += -(-path.stat().st_size // 4096) * 4096
        except FileNotFoundError:  # evicted or renamed meanwhile
            continue
    return total


def counted(cache):
    return int((cache.folder / "usage").read_text())


def start(code, *words):
    """Run code in a fresh process with its words in `sys.argv`."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        outputs.append(out.strip())
    return outputs
