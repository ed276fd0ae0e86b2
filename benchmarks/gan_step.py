"""One WGAN-GP step at the article's size: ours against torchgan with the released code's losses, on this machine.

Both train the same networks (DCGAN with BatchNorm, base width 32) on the same batches; the released losses run the
β-VAE's encoder three times a step, where ours has encoded each profile once before the run. `lazy` is ours as the
preset `faithful` has it, where one tile in four pays the gradient penalty, not each. Contenders run in rounds that
alternate, each in a process of its own on the same cores; ratios are medians of ratios within a round. Then ours on two
processes of one core against one of two, and the whole trainer against its bare step. The last line printed is one JSON
object.
"""

import contextlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import click
from shared.contenders import Contender
from shared.environments import python_of, versions_of
from shared.others import wait_for_quiet
from shared.race import Answer, Entry, Outcome, race
from shared.report import Clock, load_average, rounded, source_digest

WORKERS = Path(__file__).parent / "gan_parts" / "workers"
GENES, LATENT, CONDITION = 19_198, 2048, 64
SAME_NETWORKS = {
    "condition": "latent_plus_noise",
    "critic": "image_only",
    "generator": "dcgan",
    "generator_norm": "batch",
    "critic_layout": "dcgan",
    "critic_norm": "batch",
    "critic_steps": 1,
    "penalty_every": 1,
    "diffaugment": "none",
    "flips": False,
    "quarter_turns": False,
}
LAZY = {"penalty_every": 4}  # as the preset `faithful` has it; torchgan's every tile pays, and so do ours without it


@click.command(help=__doc__)
@click.option("--cache", type=click.Path(path_type=Path), default="runs/bench", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--steps", default=4, show_default=True, help="Steps of each contender a round.")
@click.option("--resolution", default=256, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--width", default=32, show_default=True)
@click.option("--environments-only", is_flag=True, help="Make the environment of torchgan and end.")
def main(
    cache: Path, rounds: int, steps: int, resolution: int, batch_size: int, width: int, environments_only: bool
) -> None:
    torchgan = python_of("torchgan", ["torchgan==0.1.0"], cache / "venvs", on_ours=True)
    if environments_only:
        return
    clock, source, load = Clock(), source_digest(), [load_average()]
    cores, scratch = sorted(os.sched_getaffinity(0)), cache / "scratch" / "gan_step"
    size = {"resolution": resolution, "batch_size": batch_size}
    widths = {"generator_width": width, "critic_width": width}
    wait_for_quiet(cores)
    clock.say("against torchgan")
    same = size | widths | SAME_NETWORKS
    published = size | {"width": width, "genes": GENES, "steps": steps}
    options: dict[str, dict[str, Any]] = {
        "ours_bf16": {"config": same | {"precision": "bf16"}, "condition_width": LATENT},
        "ours_fp32": {"config": same | {"precision": "float32"}, "condition_width": LATENT},
        "ours_bf16_lazy": {"config": same | LAZY | {"precision": "bf16"}, "condition_width": LATENT},
        "ours_fp32_lazy": {"config": same | LAZY | {"precision": "float32"}, "condition_width": LATENT},
        "torchgan": published | {"encoder": True},
        "torchgan_without_encoder": published | {"encoder": False},
    }
    ours = {name: "rnagan" for name in options if name.startswith("ours")}
    outcome, peaks = _race_apart(
        ours | dict.fromkeys(["torchgan", "torchgan_without_encoder"], "torchgan"),
        torchgan,
        options,
        cores,
        scratch,
        rounds,
        steps,
    )
    clock.say("processes")
    faithful = size | widths | {"precision": "bf16", "diffaugment": "none"}
    two = {f"{n}_processes": {"config": faithful, "condition_width": CONDITION, "processes": n} for n in (1, 2)}
    scaling, _ = _race_apart(dict.fromkeys(two, "processes"), torchgan, two, cores, scratch, rounds, 2 * steps)
    clock.say("trainer against its step")
    own = size | widths | {"log_every": 8 * batch_size, "sample_every": 10**9, "checkpoint_every": 10**9}
    beside = _trainer_against_step(own, cores, scratch, rounds, 4 * steps)
    clock.say("done")
    print(
        json.dumps(
            {
                "ratio_torchgan_bf16": rounded(outcome.ratio("ours_bf16", "torchgan")),
                "ratio_torchgan_fp32": rounded(outcome.ratio("ours_fp32", "torchgan")),
                "ratio_torchgan_bf16_lazy": rounded(outcome.ratio("ours_bf16_lazy", "torchgan")),
                "ratio_torchgan_fp32_lazy": rounded(outcome.ratio("ours_fp32_lazy", "torchgan")),
                "ratio_torchgan_without_encoder_bf16": rounded(outcome.ratio("ours_bf16", "torchgan_without_encoder")),
                "ratio_torchgan_without_encoder_fp32": rounded(outcome.ratio("ours_fp32", "torchgan_without_encoder")),
                **_memory(outcome),
                **_shares(outcome, peaks),
                "scaling_2_processes": rounded(scaling.ratio("2_processes", "1_processes")),
                "overhead": rounded(_overhead(beside)),
                "images_per_second": {
                    name: round(o.median(name), 2) for o in (outcome, scaling, beside) for name in o.rates
                },
                "images_per_second_by_round": {
                    name: [round(r, 2) for r in rates]
                    for o in (outcome, scaling, beside)
                    for name, rates in o.rates.items()
                },
                "failures": outcome.failures | scaling.failures | beside.failures,
                "size": size | {"width": width},
                "cores": len(cores),
                "versions": versions_of(torchgan, ["torch", "torchgan"]),
                "load_average": [*load, load_average()],
                "rnagan_source_changed_during_run": source_digest() != source,
                "seconds": round(clock.seconds()),
            }
        )
    )


def _race_apart(
    workers: dict[str, str],
    torchgan: Path,
    options: dict[str, dict[str, Any]],
    cores: list[int],
    scratch: Path,
    rounds: int,
    steps: int,
) -> tuple[Outcome, list[Answer]]:
    """Contenders in a process each, one at work at a time; also what the machine's peak was in each round."""
    peaks: list[Answer] = []
    with contextlib.ExitStack() as stack:
        contenders = {
            name: stack.enter_context(
                Contender(
                    WORKERS / f"run_{worker}.py",
                    torchgan if worker == "torchgan" else sys.executable,
                    cores,
                    scratch / name,
                )
            )
            for name, worker in workers.items()
        }

        def ask(entry: Entry) -> Answer:
            if entry.name == "ours_bf16":  # once a round: what the machine can do varies with its neighbours
                peaks.append(contenders[entry.name].ask({"do": "peak"})["flops_per_second"])
            return contenders[entry.name].ask({"do": "steps", "steps": steps} | entry.option)

        def warm_up(entry: Entry) -> Answer:
            return contenders[entry.name].ask({"do": "steps"} | entry.option | {"steps": 2})

        entries = [Entry(name, name, options[name], rounds) for name in workers]
        return race(entries, ask, warm_up), peaks


def _trainer_against_step(config: dict[str, Any], cores: list[int], scratch: Path, rounds: int, steps: int) -> Outcome:
    """Both in one process, in turn: the trainer's loop, and its step alone."""
    with Contender(WORKERS / "run_trainer.py", sys.executable, cores, scratch / "trainer") as contender:

        def ask(entry: Entry) -> Answer:
            return contender.ask({"do": entry.name, "config": config, "steps": steps})

        return race([Entry(name, "trainer", {}, rounds) for name in ("trainer", "bare")], ask, ask)


def _memory(outcome: Outcome) -> dict[str, Any]:
    """Peak above the imports: against torchgan as published, and without the encoders, which take most of it."""
    peak = {name: max(answer["peak_gb"] for answer in answers) for name, answers in outcome.answers.items()}
    found: dict[str, Any] = {"peak_memory_gb": {name: round(gb, 2) for name, gb in peak.items()}}
    for precision, name in (("", "ours_fp32"), ("_bf16", "ours_bf16")):
        for kind, other in (("", "torchgan"), ("_without_encoder", "torchgan_without_encoder")):
            if name in peak and other in peak:
                found[f"memory_ratio{kind}{precision}"] = round(peak[name] / peak[other], 3)
    return found


def _shares(outcome: Outcome, peaks: list[Answer]) -> dict[str, Any]:
    """FLOPs of a step as a share of a matrix multiply's, in float32 (in bf16 the penalty stays in float32)."""
    found: dict[str, Any] = {"gflops_peak": [{k: round(v / 1e9) for k, v in peak.items()} for peak in peaks]}
    for suffix, name, dtype in (("", "ours_fp32", "float32"), ("_bf16", "ours_bf16", "bfloat16")):
        rounds = list(zip(outcome.rates.get(name, []), outcome.answers.get(name, []), peaks, strict=False))
        found[f"share_of_peak{suffix}"] = rounded(
            statistics.median(rate * answer["flops_a_tile"] / peak[dtype] for rate, answer, peak in rounds)
            if rounds
            else None
        )
    return found


def _overhead(beside: Outcome) -> float | None:
    ratio = beside.ratio("bare", "trainer")
    return None if ratio is None else ratio - 1


if __name__ == "__main__":
    main()
