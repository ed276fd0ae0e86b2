"""One WGAN-GP step at the article's size: ours against torchgan with the released code's losses, on this machine.

Both train the same networks (DCGAN with BatchNorm, base width 32) on the same batches; the released losses run the
β-VAE's encoder three times a step, where ours has encoded each profile once before the run. `lazy` is ours as the
preset `faithful` has it, where one tile in four pays the gradient penalty, not each. Contenders run in rounds that
alternate, each in a process of its own on the same cores; ratios are medians of ratios within a round. Then the presets
of critics against WGAN-GP's, ours on two processes of one core against one of two, and the whole trainer against its
bare step. What a step of each preset would do on a GPU, copies from the host and bytes touched, is counted on fake
tensors (fake_gpu/). A CPU that only emulates bf16 runs float32 alone. The last line printed is one JSON object.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fake_gpu import machine
from shared.contenders import Contenders
from shared.environments import environments_only, find_environments, versions_of
from shared.options import benchmark
from shared.others import own_cores, wait_for_quiet
from shared.race import Answer, Entry, Outcome, race
from shared.report import Report, rounded

from rnagan.config.base import read_preset
from rnagan.config.gan import GANConfig

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
CRITICS = ("wgan_gp", "relativistic", "features", "two_critics")  # presets
PRESETS = ("wgan_gp", "paper", "released", "relativistic", "features", "two_critics")  # at their own sizes
QUICK_PRESETS = ("wgan_gp", "two_critics")
PRECISION = {"bf16": "bf16", "fp32": "float32"}
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
EMULATE_BF16 = ("DEFAULT", "AVX2")  # CPUs whose bf16 takes ten times as long as float32, and says nothing of ours
LAZY = {"penalty_every": 4}  # as the preset `faithful` has it; torchgan's every tile pays, and so do ours without it


@benchmark(
    environments_only,
    rounds=(5, 1, ""),
    steps=(4, 1, "Steps of each contender a round."),
    resolution=(256, 32, ""),
    batch_size=(8, 4, ""),
    width=(32, 4, ""),
    matrix=(4096, 256, "Side of the matrices whose product is the peak."),
)
def main(run: SimpleNamespace) -> None:
    others, missing = find_environments({"torchgan": ["torchgan==0.1.0"]}, run, on_ours=True)
    report, cores, scratch = Report("images"), own_cores(run.quick), run.cache / "scratch" / "gan_step"
    pythons = dict.fromkeys(("rnagan", "processes", "trainer"), Path(sys.executable)) | others
    peaks: list[Answer] = []
    precisions = ("bf16", "fp32")[torch.backends.cpu.get_cpu_capability() in EMULATE_BF16 :][: 1 if run.quick else 2]
    first = PRECISION[precisions[0]]
    with Contenders(WORKERS, pythons, cores, scratch, run.quick) as contenders:

        def compete(
            part: str, entries: list[Entry], apart: bool, warm_up: Callable[[Entry], Answer] = contenders.ask
        ) -> Outcome:
            report.begin(part)
            return report.add(race(contenders.start(entries, apart), ask, warm_up), part)

        def ask(entry: Entry) -> Answer:
            if entry.name == f"ours_{precisions[0]}":  # once a round: the machine's speed varies with its neighbours
                limit = {"do": "peak", "matrix": run.matrix, "dtypes": [DTYPES[name] for name in precisions]}
                peaks.append(contenders.of(entry).ask(limit)["flops_per_second"])
            return contenders.ask(entry)

        wait_for_quiet(cores, 0 if run.quick else 60)
        steppers = _steppers(precisions, run)
        outcome = compete("against torchgan", steppers, True, lambda entry: contenders.ask(entry, steps=2))
        critics = compete("critics", _critics(run, first), True, lambda entry: contenders.ask(entry, steps=2))
        scaling = compete("processes", _in_processes(run, first), apart=False)
        beside = compete("trainer against its step", _beside(run), apart=False)
    report.end(
        {
            "ratio_torchgan_bf16": rounded(outcome.ratio("ours_bf16", "torchgan")),
            "ratio_torchgan_fp32": rounded(outcome.ratio("ours_fp32", "torchgan")),
            "ratio_torchgan_bf16_lazy": rounded(outcome.ratio("ours_bf16_lazy", "torchgan")),
            "ratio_torchgan_fp32_lazy": rounded(outcome.ratio("ours_fp32_lazy", "torchgan")),
            "ratio_torchgan_without_encoder_bf16": rounded(outcome.ratio("ours_bf16", "torchgan_without_encoder")),
            "ratio_torchgan_without_encoder_fp32": rounded(outcome.ratio("ours_fp32", "torchgan_without_encoder")),
            **_memory(outcome),
            **_shares(outcome, peaks, precisions),
            "critics": _by_critic(critics),
            **report.attempt(_on_a_fake_gpu, run, scratch),
            "scaling_2_processes": rounded(scaling.ratio("2_processes", "1_processes")),
            "overhead": rounded(_overhead(beside)),
            "precisions": [PRECISION[name] for name in precisions],
            "size": {"resolution": run.resolution, "batch_size": run.batch_size, "width": run.width},
            "environments_missing": missing,
            "versions": versions_of(others.get("torchgan", sys.executable), ["torch", "torchgan"]),
        }
    )


def _steppers(precisions: tuple[str, ...], run: SimpleNamespace) -> list[Entry]:
    """Ours in each precision, and torchgan with and without the encoders."""
    published = {"resolution": run.resolution, "batch_size": run.batch_size, "width": run.width, "genes": GENES}
    ours = {
        f"ours_{name}{kind}": _networks(run) | SAME_NETWORKS | lazy | {"precision": PRECISION[name]}
        for kind, lazy in (("", {}), ("_lazy", LAZY))
        for name in precisions
    }
    request = {"do": "steps", "steps": run.steps}
    return [
        *(Entry(n, "rnagan", request | {"config": c, "condition_width": LATENT}, run.rounds) for n, c in ours.items()),
        Entry("torchgan", "torchgan", request | published | {"encoder": True}, run.rounds),
        Entry("torchgan_without_encoder", "torchgan", request | published | {"encoder": False}, run.rounds),
    ]


def _critics(run: SimpleNamespace, precision: str) -> list[Entry]:
    """Our step with each preset's critics."""
    request = {"do": "steps", "steps": run.steps, "condition_width": CONDITION}
    of_preset = {name: read_preset(GANConfig, name) | _networks(run) | {"precision": precision} for name in CRITICS}
    return [Entry(name, "rnagan", request | {"config": own}, run.rounds) for name, own in of_preset.items()]


def _by_critic(critics: Outcome) -> dict[str, Any]:
    """Of each preset: its rate over WGAN-GP's, and its peak above the imports."""
    return {
        name: {
            "ratio_wgan_gp": rounded(critics.ratio(name, "wgan_gp")),
            "peak_memory_gb": round(max(answer["peak_gb"] for answer in answers), 2),
        }
        for name, answers in critics.answers.items()
    }


def _in_processes(run: SimpleNamespace, precision: str) -> list[Entry]:
    """Our step on one process and on two."""
    config = _networks(run) | {"precision": precision, "diffaugment": "none"}
    request = {"config": config, "condition_width": CONDITION, "steps": 2 * run.steps}
    return [Entry(f"{n}_processes", "processes", request | {"processes": n}, run.rounds) for n in (1, 2)]


def _beside(run: SimpleNamespace) -> list[Entry]:
    """The trainer's loop, and its step alone, in one process, in turn."""
    config = _networks(run) | {"log_every": 8 * run.batch_size, "sample_every": 10**9, "checkpoint_every": 10**9}
    request = {"config": config, "steps": 4 * run.steps, "mlflow": not run.quick}
    return [Entry(name, "trainer", request | {"do": name}, run.rounds) for name in ("trainer", "bare")]


def _networks(run: SimpleNamespace) -> dict[str, Any]:
    widths = {"generator_width": run.width, "critic_width": run.width}
    return {"resolution": run.resolution, "batch_size": run.batch_size} | widths


def _memory(outcome: Outcome) -> dict[str, Any]:
    """Peak above the imports: against torchgan as published, and without the encoders, which take most of it."""
    peak = {name: max(answer["peak_gb"] for answer in answers) for name, answers in outcome.answers.items()}
    found: dict[str, Any] = {"peak_memory_gb": {name: round(gb, 2) for name, gb in peak.items()}}
    for precision, name in (("", "ours_fp32"), ("_bf16", "ours_bf16")):
        for kind, other in (("", "torchgan"), ("_without_encoder", "torchgan_without_encoder")):
            if name in peak and other in peak:
                found[f"memory_ratio{kind}{precision}"] = round(peak[name] / peak[other], 3)
    return found


def _shares(outcome: Outcome, peaks: list[Answer], precisions: tuple[str, ...]) -> dict[str, Any]:
    """FLOPs of a step as a share of a matrix multiply's, by precision (in bf16 the penalty stays in float32)."""
    shares = {}
    for name in precisions:
        own = f"ours_{name}"
        rounds = zip(outcome.rates.get(own, []), outcome.answers.get(own, []), peaks, strict=False)
        found = [rate * answer["flops_a_tile"] / peak[DTYPES[name]] for rate, answer, peak in rounds]
        shares[name] = rounded(statistics.median(found) if found else None)
    return {"gflops_peak": [{k: round(v / 1e9) for k, v in peak.items()} for peak in peaks], "share_of_peak": shares}


def _on_a_fake_gpu(run: SimpleNamespace, scratch: Path) -> dict[str, Any]:
    """Of each preset, for one generator step: copies from host to device, and bytes touched, in bf16."""
    if why := machine.what_is_missing():
        return {"fake_gpu": why}
    sizes = {"resolution": 32, "batch_size": 8, "penalty_every": 4} if run.quick else {}
    presets = QUICK_PRESETS if run.quick else PRESETS
    cases = [{"name": name, "kind": "gan", "preset": name, "settings": sizes} for name in presets]
    found = machine.measure(cases, scratch / "fake_gpu")
    return {
        "host_to_device_copies": {name: one["to_device"] for name, one in found.items()},
        "bytes_a_step": {name: one["bytes"] for name, one in found.items()},
    }


def _overhead(beside: Outcome) -> float | None:
    ratio = beside.ratio("bare", "trainer")
    return None if ratio is None else ratio - 1


if __name__ == "__main__":
    main()
