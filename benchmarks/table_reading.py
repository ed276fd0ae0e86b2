"""How fast an expression table of GTEx's kind is read, beside pandas: seconds and peak resident memory.

A GCT of 1,000 samples × 56,200 genes is made once in the cache (TPM of four significant digits, half of them zeros).
Both hold the whole table at the end: ours as the blocks that build_expression takes one by one. Each reading is a fresh
process, the two take turns, and medians count. The last line printed is one JSON object.
"""

import gzip
import json
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from shared.options import benchmark
from shared.report import Report

from rnagan.io.files import atomic_path

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


@benchmark(rounds=(ROUNDS, 1, ""), samples=(SAMPLES, 20, ""), genes=(GENES, 500, ""))
def main(run: SimpleNamespace) -> None:
    report, names = Report(), ("ours",) if run.quick else ("ours", "pandas")
    report.end(report.attempt(measure, run.cache, run.rounds, run.samples, run.genes, names))


def measure(
    cache: Path,
    rounds: int = ROUNDS,
    samples: int = SAMPLES,
    genes: int = GENES,
    names: tuple[str, ...] = ("ours", "pandas"),
) -> dict[str, Any]:
    """Seconds and peak MiB of ours and of `pandas.read_csv`, and `ratio_read_csv`, pandas' seconds by ours."""
    table = _table(cache / f"gtex_like_{samples}x{genes}.gct.gz", samples, genes)
    runs: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, "-c", _PROGRAM.format(reader=_READERS[name]), str(table)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
            runs[name].append(json.loads(done.stdout))
    seconds, peaks = (
        {name: statistics.median(run[k] for run in of_one) for name, of_one in runs.items()} for k in range(2)
    )
    return {
        "ratio_read_csv": seconds["pandas"] / seconds["ours"] if "pandas" in names else None,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        **{f"{name}_peak_mib": value for name, value in peaks.items()},
    }


def _table(path: Path, count: int, genes: int) -> Path:
    if path.is_file():
        return path
    random = np.random.default_rng(0)
    with atomic_path(path) as temporary, gzip.open(temporary, "wt", compresslevel=6) as file:
        samples = "\t".join(f"GTEX-{n:05d}-0226-SM-{n:05d}" for n in range(count))
        file.write(f"#1.2\n{genes}\t{count}\nName\tDescription\t{samples}\n")
        for gene in range(genes):
            values = np.exp(random.normal(0, 3, count)) * (random.random(count) < 0.5)
            cells = "\t".join("0" if value == 0 else f"{value:.4g}" for value in values.tolist())
            file.write(f"ENSG{gene:011d}.4\tGENE{gene}\t{cells}\n")
    return path


if __name__ == "__main__":
    main()
