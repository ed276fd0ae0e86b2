"""The β-VAE at the article's size: ours against a plain PyTorch loop of it, and against what this machine can do.

Contenders run in rounds that alternate, each in a process of its own on the same cores; ratios are medians of ratios
within a round. Ours draws its noise and gene dropout, and has the trainer's own order and data. The last line printed
is one JSON object.
"""

import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import table_reading
from shared.contenders import Contenders
from shared.options import benchmark
from shared.others import own_cores, wait_for_quiet
from shared.race import Answer, Entry, Outcome, race
from shared.report import Report, rounded

WORKERS = Path(__file__).parent / "vae_parts" / "workers"
BATCH, PROFILES = 128, 512
BYTES_A_WEIGHT = 28  # Adam reads weight, gradient and two moments, and writes three of them, 4 bytes each
PRECISION = {"fp32": "float32", "bf16": "bf16"}
PLAIN = "plain"  # a loop in plain PyTorch, which needs no environment


@benchmark(
    rounds=(5, 1, ""),
    steps=(3, 1, "Steps of each contender a round."),
    genes=(19_198, 200, ""),
    hidden=((6000, 4096), (48, 32), "Widths of the hidden layers."),
    latent=(2048, 16, ""),
    matrix=(4096, 256, "Side of the matrices whose product is the peak."),
    tables=(True, False, "Also read tables."),
)
def main(run: SimpleNamespace) -> None:
    report, cores = Report("samples"), own_cores(run.quick)
    size = {"genes": run.genes, "hidden": run.hidden, "latent": run.latent, "profiles": PROFILES}
    request = {"do": "steps", "steps": run.steps, **size}
    ours = {f"ours_{name}": PRECISION[name] for name in (["fp32"] if run.quick else PRECISION)}
    asked = {name: request | {"precision": precision} for name, precision in ours.items()}
    entries = [Entry(name, "rnagan", option, run.rounds) for name, option in asked.items()]
    if not run.quick:
        entries.append(Entry(PLAIN, PLAIN, request, run.rounds))
    limits: list[Answer] = []
    pythons = dict.fromkeys(("rnagan", PLAIN), sys.executable)
    with Contenders(WORKERS, pythons, cores, run.cache / "scratch" / "vae", run.quick) as contenders:

        def ask(entry: Entry) -> Answer:
            if entry.name == "ours_fp32":  # once a round: what the machine can do varies with its neighbours
                limits.append(contenders.of(entry).ask({"do": "limits", "matrix": run.matrix}))
            return contenders.ask(entry)

        wait_for_quiet(cores, 0 if run.quick else 60)
        report.begin("rounds")
        outcome = report.add(race(contenders.start(entries), ask, warm_up=ask))
    read = {}
    if run.tables:
        report.begin("tables")
        read = report.attempt(table_reading.measure, run.cache)
    report.end(
        {
            "ratio_plain_bf16": rounded(outcome.ratio("ours_bf16", PLAIN)),
            "ratio_plain_fp32": rounded(outcome.ratio("ours_fp32", PLAIN)),
            **shares(outcome, limits[1:], run.genes * run.hidden[0]),
            **read,
            "seconds_a_step": {
                name: {
                    part: round(statistics.median(answer[part] for answer in outcome.answers[name]), 3)
                    for part in ("waiting", "forward_backward", "optimiser")
                }
                for name in ours
                if name in outcome.rates
            },
            "size": size,
        }
    )


def shares(outcome: Outcome, limits: list[Answer], first_weights: int) -> dict[str, Any]:
    """Of the peak of a matrix multiply and of the memory bandwidth, medians of ratios within a round."""
    found: dict[str, Any] = {}
    for name, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
        answers = outcome.answers.get(f"ours_{name}", [])
        rounds = list(zip(answers, limits, strict=False))
        found[f"share_of_peak_{name}"] = rounded(
            statistics.median(
                flops(a["weights"], first_weights) / a["forward_backward"] / b["peak"][dtype] for a, b in rounds
            )
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


def flops(weights: int, first_weights: int) -> float:
    """Of forward and backward of a batch: three products a weight, but none for the gradient of the input."""
    return 2 * BATCH * (3 * weights - first_weights)


if __name__ == "__main__":
    main()
