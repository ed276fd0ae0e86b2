"""How the program ends under attack: runs the tests marked `attack`, and counts their ends.

`tried` attacks ended in one sentence (`sentences`), or as if nothing had happened (`unharmed`), as their test promises.
Whatever ended otherwise is one of `tracebacks` (crashes too), `hangs`, or `silent`: all other broken promises are
counted as this worst one. `invocations_tried` are generated wrong calls, counted apart while they end well. The
last line printed is one JSON object.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import click
from shared.options import benchmark
from shared.report import Report

ROOT = Path(__file__).parents[1]
WELL = {"sentence": "sentences", "unharmed": "unharmed"}
BADLY = ("tracebacks", "silent", "hangs")
CORES = len(os.sched_getaffinity(0))
RAN = (0, 1)  # exit codes of pytest: all passed, some failed
TRACEBACK = "Traceback (most recent call last)"
EXPECTED = ("assert ", "AssertionError", "Failed: ")  # how the message of a broken promise begins; others are errors
HUNG = ("Failed: Timeout ", "TimeoutError", "subprocess.TimeoutExpired")


@benchmark(
    click.option("--tests", type=click.Path(exists=True, path_type=Path), default=ROOT / "tests", help="Of attacks."),
    slow=(True, False, "Also the attacks that take long."),
    processes=(CORES, CORES, "Attacks at once."),
)
def main(run: SimpleNamespace) -> None:
    report = Report()
    report.end(report.attempt(attacks, report, run))


def attacks(report: Report, run: SimpleNamespace) -> dict[str, Any]:
    """Counts of ends and, as `tried_by_kind`, of attacks. Each that failed becomes a failure of the report.

    Raises `ValueError` when the tests can't be started.
    """
    results = (run.cache / "attacks.xml").resolve()
    results.unlink(missing_ok=True)
    wanted = "attack and not slurm" if run.slow else "attack and not slurm and not slow"
    pytest = (
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        ROOT,
        "-p",
        "no:cacheprovider",
    )
    how = ("-q", "-m", wanted, "-n", str(run.processes), "--dist", "worksteal", f"--junitxml={results}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([*pytest, *how, run.tests.resolve()], stdout=sys.stderr, cwd=ROOT, env=environment)
    if done.returncode not in RAN:
        raise ValueError(f"pytest ended with exit code {done.returncode}: no attacks, or a test that can't be read.")
    ends, kinds, invocations = Counter[str](), Counter[str](), 0
    for case in ElementTree.parse(results).iter("testcase"):
        declared = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        end, reason = ended(case)
        if end == "passed" and "invocations" in declared:
            invocations += int(declared["invocations"])
            continue
        ends[WELL[declared["attack_ends"]] if end == "passed" else end] += 1
        kinds[declared.get("attack_kind", "unknown")] += end != "skipped"  # a worker that crashed declares none
        if end in BADLY:
            report.fail({}, {f"{case.attrib['classname']}.{case.attrib['name']}": f"{end}: {reason}"})
    counts = {end: ends[end] for end in (*WELL.values(), *BADLY, "skipped")}
    return {
        "tried": sum(kinds.values()),
        **counts,
        "invocations_tried": invocations,
        "tried_by_kind": dict(sorted(kinds.items(), key=lambda pair: (len(pair[0]), pair[0]))),
    }


def ended(case: ElementTree.Element) -> tuple[str, str]:
    """`passed`, `skipped` or a bad end, and the first line of its reason."""
    bad = [*case.iter("failure"), *case.iter("error")]
    if not bad:
        return "passed" if case.find("skipped") is None else "skipped", ""
    messages = [each.attrib["message"] for each in bad]
    shown = "".join(case.itertext())
    end = "silent"
    if TRACEBACK in shown or not all(message.startswith(EXPECTED) for message in messages):
        end = "tracebacks"
    if any(message.startswith(HUNG) for message in messages):
        end = "hangs"
    return end, messages[0].partition("\n")[0]


if __name__ == "__main__":
    main()
