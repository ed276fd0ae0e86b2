"""What a dry run says of the cost: the counts of a step, a roofline, and what 1, 8 and 64 GPUs would give."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rnagan.commands.train_rnagan import main
from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.training.gan import forecast as cost
from rnagan.training.gan.step_work import StepWork, Work, count
from rnagan.training.gpus import GPU, GPUS, gpu_named, gpu_of
from rnagan.training.op_counts import Operation
from rnagan.training.step_rate import condition_width

DOC = Path(__file__).parents[3] / "docs" / "gpu.md"
TABLED = ("wgan_gp", "paper", "two_critics", "faithful_256")  # presets in docs/gpu.md
CONFIG = GANConfig(precision="bf16")
A_GPU = GPU("made up", 100e12, 10e12, 1e12, 10e9, 100e9, "")
# 200 GFLOP in bf16 (2 ms), 10 GFLOP in float32 (1 ms), 4 GB (4 ms) for a batch of 64; 5 MB at any batch
OPERATIONS = [
    Operation("convolution", "bfloat16", 200 * 10**9, 10**6),
    Operation("convolution", "float32", 10 * 10**9, 10**6),
    Operation("add", "bfloat16", 0, 4 * 10**9),
    Operation("_fused_adam_", "", 0, 5 * 10**6),
]
STEP = StepWork.of(64, 1, OPERATIONS, 2e9)


def made_up(**changes: float) -> Work:
    twice = dataclasses.replace(
        STEP, batch=128, flops=2 * STEP.flops, bytes=STEP.bytes * [2, 2, 2, 1], peak_bytes=3.5e9
    )
    return Work(STEP, twice, 100e6, 200e6)._replace(**changes)


@functools.cache
def counted(config: GANConfig) -> Work:
    return Work.of(count(config, condition_width(config)))


def test_roofline_takes_the_slower_of_arithmetic_and_memory_for_each_operation() -> None:
    arithmetic, memory = cost.roofline(STEP, A_GPU)
    assert arithmetic == pytest.approx(3e-3) and memory == pytest.approx(4.005e-3)
    half = dataclasses.replace(STEP, share=0.5)  # of two critic steps
    assert cost.roofline(half, A_GPU) == pytest.approx((1.5e-3, 2.0025e-3))


def test_another_batch_is_on_a_line() -> None:
    small = made_up().at(16)
    np.testing.assert_allclose(small.flops, STEP.flops / 4)
    np.testing.assert_allclose(small.bytes, STEP.bytes * [0.25, 0.25, 0.25, 1])
    assert small.peak_bytes == pytest.approx(2e9 - 48 * 1.5e9 / 64)


def test_parts_of_a_step_and_what_limits_it() -> None:
    one = cost.forecast(CONFIG, made_up(), A_GPU, 1, 64)
    assert one.seconds["arithmetic"] == pytest.approx(3e-3 / cost.EFFICIENCY)
    assert one.seconds["launches"] == pytest.approx(4 * cost.LAUNCH_SECONDS)
    assert one.seconds["all-reduce"] == 0 and one.limited_by == "memory"
    assert one.seconds["loader"] == pytest.approx(64 * 0.3e-3 / 8)
    validation = 2000 * 5.6e-3 / 8 * 64 / 200_000  # eight cores are slower than the GPU
    assert one.seconds["validation"] == pytest.approx(validation)
    copied = 200e6 / 25e9 * 64 / CONFIG.checkpoint_every
    assert one.seconds["saving"] == pytest.approx(copied + 64 * 7.005e-3 / cost.EFFICIENCY / CONFIG.sample_every)
    distances = 1.8 / 200_000 * 64  # two, on two cores
    assert one.seconds["writer"] == pytest.approx(
        distances + 64 * (0.6 / CONFIG.sample_every + 0.2 / CONFIG.checkpoint_every)
    )
    waits = one.seconds["validation"] + one.seconds["saving"]
    assert 64 / one.images_per_second == pytest.approx(7.005e-3 / cost.EFFICIENCY + waits)


def test_gpus_at_a_constant_and_at_a_growing_batch() -> None:
    constant, growing = (cost.forecast(CONFIG, made_up(), A_GPU, 8, size) for size in (64, 512))
    assert constant.seconds["memory"] < growing.seconds["memory"]
    assert growing.images_per_second > constant.images_per_second
    assert growing.seconds["all-reduce"] == pytest.approx(2 * 7 / 8 * 100e6 / 100e9)  # around the ring
    far = cost.forecast(CONFIG, made_up(), A_GPU, 64, 4096)
    assert far.seconds["all-reduce"] == pytest.approx(2 * 63 / 64 * 100e6 / cost.BETWEEN_MACHINES)
    rows = cost.many_gpus(CONFIG, made_up(), A_GPU)
    assert [row["batch"] for row in rows] == ["64", "64", "512", "64", "4,096"]
    assert rows[3]["images/s"] == "–" and "penalty_every 4 must divide the 1 tiles" in rows[3]["limited by"]
    assert cost.many_gpus(CONFIG, made_up(), A_GPU._replace(memory=1e9))[0]["limited by"] == "its 1 GB, too few"


def test_launches_and_the_loader_can_be_what_limits() -> None:
    many = StepWork.of(64, 1, OPERATIONS + [Operation("add", "", 0, 1)] * 10_000, 2e9)
    slow = cost.forecast(CONFIG, made_up(one=many, other=dataclasses.replace(many, batch=128)), A_GPU, 1, 64)
    assert slow.limited_by == "launches"
    starved = cost.forecast(CONFIG.replace(loader_threads=1), made_up(), A_GPU._replace(bandwidth=1e13), 1, 64)
    assert starved.limited_by == "loader"
    assert starved.images_per_second < 1 / 0.3e-3
    written = cost.forecast(CONFIG.replace(sample_every=100), made_up(), A_GPU, 1, 64)
    assert written.limited_by == "writer" and written.images_per_second == pytest.approx(100 / 0.6, rel=0.05)


def test_gpus_are_named_and_known() -> None:
    assert gpu_named("rtx 4090").name == "RTX-4090" and gpu_named("h200").bandwidth == 4.8e12
    with pytest.raises(ValueError, match=r"--gpu B300 isn't known; choose A100-40GB, .*V100\."):
        gpu_named("B300")
    with pytest.raises(ValueError, match="V100 only emulates it"):
        cost.known_gpus(CONFIG, "V100")
    auto = CONFIG.replace(precision="auto")
    assert cost.known_gpus(auto, "V100")[0].precision == "float32"
    config, known = cost.known_gpus(auto, cost.ALL)
    assert config.precision == "bf16" and len(known) == len(GPUS) - 1  # all but V100
    assert cost.known_gpus(CONFIG.replace(precision="fp16"), "V100")[0].precision == "bf16"


@pytest.mark.parametrize(
    ("device_name", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("NVIDIA B200", None),
    ],
)
def test_gpus_are_known_by_what_pytorch_calls_them(device_name: str, name: str | None) -> None:
    found = gpu_of(device_name)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--dry-run", "--gpu", "B300"], "Error: --gpu B300 isn't known; choose A100-40GB"),
        (["--gpu", "H200"], "Error: --gpu belongs to --dry-run"),
    ],
)
def test_a_wrong_gpu_costs_one_sentence(options: list[str], sentence: str) -> None:
    done = CliRunner().invoke(main, ["--shards", "s", "--cohort", "c", "--out", "o", "--mode", "gan", *options])
    assert done.exit_code != 0 and done.output.splitlines()[-1].startswith(sentence)


@pytest.mark.slow
def test_counts_grow_in_a_line_and_know_the_penalty() -> None:
    """The real step, small: batch 8 and 16 are counted, 24 is on their line; the penalty alone is in float32."""
    settings = {"precision": "bf16", "resolution": 32, "generator_width": 4, "critic_width": 4, "batch_size": 8}
    config = resolve(GANConfig, read_preset(GANConfig, "wgan_gp"), settings)
    work = counted(config)
    larger = counted(config.replace(batch_size=24)).one
    expected = work.at(24)
    np.testing.assert_allclose(expected.flops, larger.flops)
    np.testing.assert_allclose(expected.bytes, larger.bytes)
    in_float32 = work.one.flops[~work.one.reduced].sum()
    every = counted(config.replace(penalty_every=1)).one
    assert every.flops[~every.reduced].sum() == pytest.approx(4 * in_float32, rel=0.1)
    assert 0 < in_float32 < work.one.flops.sum() / 2


def tabled(preset: str) -> list[str]:
    """Lines of docs/gpu.md on a preset."""
    config, known = cost.known_gpus(resolve(GANConfig, read_preset(GANConfig, preset), {}), cost.ALL)
    work = counted(config)
    rows = cost.one_gpu_each(config, work, known) + cost.many_gpus(config, work, gpu_named("H200"))[1:]
    lines = [f"`{preset}`: {cost.describe(work, config, config.batch_size)}", ""]
    names = [name for name in rows[0] if name != "hours"]
    lines += [" | ".join(["", *names, ""]).strip(), "|" + "---|" * len(names)]
    return lines + [" | ".join(["", *(row[name] for name in names), ""]).strip() for row in rows]


@pytest.mark.slow
def test_the_preset_for_256_px_leaves_a_quarter_of_24_gb_to_the_allocator() -> None:
    """Weights, gradients, moments, the average and all maps that a step holds at a time. A larger batch doesn't fit."""
    config, _ = cost.known_gpus(resolve(GANConfig, read_preset(GANConfig, "faithful_256"), {}), cost.ALL)
    work = counted(config)
    assert work.one.batch == config.batch_size == 64 and config.accumulate == 1
    assert work.one.peak_bytes < 0.75 * gpu_named("RTX-4090").memory < gpu_named("RTX-4090").memory == 24e9
    assert work.at(96).peak_bytes > 24e9
    # Of no tiles: weights, moments and the average; gradients, and the weights in bf16.
    assert work.at(0).peak_bytes == pytest.approx(work.checkpoint_bytes + 1.5 * work.gradient_bytes, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("preset", TABLED)
def test_the_page_says_what_the_code_says(preset: str) -> None:
    assert "\n".join(tabled(preset)) in DOC.read_text()
