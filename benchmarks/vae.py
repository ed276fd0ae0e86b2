"""The β-VAE at the article's size: ours against a plain PyTorch loop of it, and against what this machine can do.

Contenders run in rounds that alternate, each in a process of its own on the same cores; ratios are medians of ratios
within a round. Ours draws its noise and gene dropout, and has the trainer's own order and data. The last line printed
is one JSON object.
"""

import contextlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import click
import table_reading
from shared.contenders import Contender
from shared.others import wait_for_quiet
from shared.race import Answer, Entry, Outcome, race
from shared.report import Clock, attempt, load_average, rounded, source_digest

WORKERS = Path(__file__).parent / "vae_parts" / "workers"
GENES, FIRST_HIDDEN, BATCH = 19_198, 6000, 128
PROFILES = 512
BYTES_A_WEIGHT = 28  # Adam reads weight, gradient and two moments, and writes three of them, 4 bytes each
WORKER_OF = {"ours_fp32": "rnagan", "ours_bf16": "rnagan", "plain": "plain"}
PRECISION = {"ours_fp32": "float32", "ours_bf16": "bf16"}


@click.command(help=__doc__)
@click.option("--cache", type=click.Path(path_type=Path), default="runs/bench", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=3, show_default=True, help="Steps of each contender a round.")
@click.option("--tables/--no-tables", default=True, show_default=True, help="Also read tables.")
def main(cache: Path, rounds: int, steps: int, tables: bool) -> None:
    clock, source, load = Clock(), source_digest(), [load_average()]
    scratch, cores = cache / "scratch", sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        contenders = {
            name: stack.enter_context(Contender(WORKERS / f"run_{worker}.py", sys.executable, cores, scratch))
            for name, worker in WORKER_OF.items()
        }
        limits: list[Answer] = []

        def ask(entry: Entry) -> Answer:
            if entry.name == "ours_fp32":  # once a round: what the machine can do varies with its neighbours
                limits.append(contenders["ours_fp32"].ask({"do": "limits"}))
            request = {"do": "steps", "steps": steps, "genes": GENES, "profiles": PROFILES}
            return contenders[entry.worker].ask(request | entry.option)

        entries = [Entry(name, name, {"precision": PRECISION.get(name, "float32")}, rounds) for name in WORKER_OF]
        wait_for_quiet(cores)
        clock.say("rounds")
        outcome = race(entries, ask, warm_up=ask)
    clock.say("tables")
    read = attempt(table_reading.measure) if tables else {}
    clock.say("done")
    print(
        json.dumps(
            {
                "ratio_plain_bf16": rounded(outcome.ratio("ours_bf16", "plain")),
                "ratio_plain_fp32": rounded(outcome.ratio("ours_fp32", "plain")),
                **shares(outcome, limits[1:]),
                **read,
                "samples_per_second": {name: round(outcome.median(name), 1) for name in outcome.rates},
                "samples_per_second_by_round": {
                    name: [round(rate, 1) for rate in rates] for name, rates in outcome.rates.items()
                },
                "seconds_a_step": {
                    name: {
                        part: round(statistics.median(answer[part] for answer in outcome.answers[name]), 3)
                        for part in ("waiting", "forward_backward", "optimiser")
                    }
                    for name in PRECISION
                    if name in outcome.answers
                },
                "failures": outcome.failures,
                "cores": len(cores),
                "load_average": [*load, load_average()],
                "rnagan_source_changed_during_run": source_digest() != source,
                "seconds": round(clock.seconds()),
            }
        )
    )


def shares(outcome: Outcome, limits: list[Answer]) -> dict[str, Any]:
    """Of the peak of a matrix multiply and of the memory bandwidth, medians of ratios within a round."""
    found: dict[str, Any] = {}
    for name, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
        answers = outcome.answers.get(f"ours_{name}", [])
        rounds = list(zip(answers, limits, strict=False))
        found[f"share_of_peak_{name}"] = rounded(
            statistics.median(flops(a["weights"]) / a["forward_backward"] / limit["peak"][dtype] for a, limit in rounds)
            if rounds
            else None
        )
        found[f"gflops_peak_{name}"] = [round(limit["peak"][dtype] / 1e9) for limit in limits]
        if name == "fp32" and rounds:
            found["optimiser_bandwidth_share"] = rounded(
                statistics.median(a["weights"] * BYTES_A_WEIGHT / a["optimiser"] / b["bandwidth"] for a, b in rounds)
            )
            found["bandwidth_gb_per_second"] = [round(limit["bandwidth"] / 1e9, 1) for limit in limits]
    return found


def flops(weights: int) -> float:
    """Of forward and backward of a batch: three products a weight, but none for the gradient of the input."""
    return 2 * BATCH * (3 * weights - GENES * FIRST_HIDDEN)


if __name__ == "__main__":
    main()
