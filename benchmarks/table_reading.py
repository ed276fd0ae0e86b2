"""How fast an expression table of GTEx's kind is read, beside pandas: seconds and peak resident memory.

A GCT of 1,000 samples × 56,200 genes is made once under runs/bench (TPM of four significant digits, half of them
zeros). Both hold the whole table at the end: ours as the blocks that build_expression takes one by one. Each reading
is a fresh process, the two take turns, and the median of three counts.
"""

import gzip
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from rnagan.io.files import atomic_path

ROOT = Path(__file__).parents[1]
SAMPLES, GENES, ROUNDS = 1_000, 56_200, 3
_OURS = """
from rnagan.expression.checked_table import open_table
def read(path):
    return list(open_table(path).blocks())
"""
_PANDAS = """
import pandas
def read(path):
    return pandas.read_csv(path, sep="\\t", skiprows=2)
"""
_READERS = {"ours": _OURS, "pandas": _PANDAS}
_PROGRAM = """
import json, resource, sys, time
{reader}
began = time.perf_counter()
table = read(sys.argv[1])
seconds = time.perf_counter() - began
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def measure() -> dict[str, float]:
    """Seconds and peak MiB of ours and of `pandas.read_csv`, and `ratio_read_csv`, pandas' seconds by ours."""
    table = _table(ROOT / "runs" / "bench" / f"gtex_like_{SAMPLES}x{GENES}.gct.gz")
    runs: dict[str, list[list[float]]] = {name: [] for name in _READERS}
    for _ in range(ROUNDS):
        for name, reader in _READERS.items():
            command = [sys.executable, "-c", _PROGRAM.format(reader=reader), str(table)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            runs[name].append(json.loads(done.stdout))
    seconds = {name: statistics.median(run[0] for run in of_one) for name, of_one in runs.items()}
    peaks = {name: statistics.median(run[1] for run in of_one) for name, of_one in runs.items()}
    return {
        "ratio_read_csv": seconds["pandas"] / seconds["ours"],
        **{f"{name}_seconds": value for name, value in seconds.items()},
        **{f"{name}_peak_mib": value for name, value in peaks.items()},
    }


def _table(path: Path) -> Path:
    if path.is_file():
        return path
    random = np.random.default_rng(0)
    with atomic_path(path) as temporary, gzip.open(temporary, "wt", compresslevel=6) as file:
        samples = "\t".join(f"GTEX-{n:05d}-0226-SM-{n:05d}" for n in range(SAMPLES))
        file.write(f"#1.2\n{GENES}\t{SAMPLES}\nName\tDescription\t{samples}\n")
        for gene in range(GENES):
            values = np.exp(random.normal(0, 3, SAMPLES)) * (random.random(SAMPLES) < 0.5)
            cells = "\t".join("0" if value == 0 else f"{value:.4g}" for value in values.tolist())
            file.write(f"ENSG{gene:011d}.4\tGENE{gene}\t{cells}\n")
    return path


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
