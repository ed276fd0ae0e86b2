"""The trainers' steps on a GPU that isn't there (benchmarks/fake_gpu): real code, fake tensors, nothing computed."""

import collections
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FAKE_GPU = ROOT / "benchmarks" / "fake_gpu"
sys.path.insert(0, str(FAKE_GPU))
import machine  # noqa: E402

sys.path.remove(str(FAKE_GPU))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.guard,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(machine.what_is_missing() is not None, reason=str(machine.what_is_missing())),
]
# Tiles that pay the penalty, and what its maps are in.
PAYING = {
    "wgan_gp": (3, "float32"),
    "relativistic": (6, "float32"),
    "residual": (6, "float32"),
    "bf16_penalty": (3, "bfloat16"),
}
# A batch of 12, and 24 with real and generated tiles: no other size is one of them. One tile in 4 pays the penalty.
TILES = 12
SMALL = {"batch_size": TILES, "resolution": 32, "penalty_every": 4}
PRESETS = ("wgan_gp", "paper", "released", "relativistic", "features", "two_critics")
GANS = {
    **{preset: (preset, {}) for preset in PRESETS},
    "residual": ("faithful_256", {"backbone": "none"}),
    "bf16_penalty": ("wgan_gp", {"penalty_precision": "bf16"}),
    "gan": ("faithful", {"mode": "gan"}),
    "accumulate": ("faithful", {"batch_size": 2 * TILES, "accumulate": 2}),
    "critic_steps": ("faithful", {"critic_steps": 2}),
    "both": ("two_critics", {"batch_size": 2 * TILES, "accumulate": 2, "critic_steps": 2}),
}
# Most bytes that a round of steps may touch, in MB. They may fall.
MOST_MB = {
    "wgan_gp": 283,
    "bf16_penalty": 279,
    "paper": 514,
    "released": 587,
    "relativistic": 326,
    "features": 1407,
    "two_critics": 1635,
    "residual": 1113,
    "gan": 262,
    "accumulate": 583,
    "critic_steps": 462,
    "both": 5993,
}


OTHERS = {
    "vae": {"kind": "vae", "preset": "faithful", "settings": {"batch_size": 8, "gene_dropout": 0.5}},
    "simclr": {"kind": "simclr", "preset": "paper", "settings": {"batch_size": 6, "resolution": 32}},
}
WAYS = [name for name in GANS if name not in PRESETS]
# One of two processes; batches of both.
OF_TWO = {
    "gan": {"kind": "gan", "preset": "two_critics", "settings": SMALL | {"batch_size": 24, "on_corrupt": "skip"}},
    "vae": {"kind": "vae", "preset": "faithful", "settings": {"batch_size": 16, "free_bits": 0.1}},
    "simclr": {"kind": "simclr", "preset": "paper", "settings": {"batch_size": 12, "resolution": 32, "norm": "group"}},
}
# Messages of the start, the first step and the row after it; a network is a broadcast of its weights.
MESSAGES = {
    "gan": {"broadcast_ cuda": 3, "allreduce_ cuda": 8},
    "vae": {"broadcast_ cuda": 2, "allreduce_ cuda": 5},
    "simclr": {"broadcast_ cuda": 1, "allreduce_ cuda": 4, "allgather_ cuda": 2},
}


def measured(names: Iterable[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Counts of cases, by name. They share one start of Python, which takes most of the time."""
    cases = [
        OTHERS[name] if name in OTHERS else {"kind": "gan", "preset": GANS[name][0], "settings": SMALL | GANS[name][1]}
        for name in names
    ]
    return machine.measure([case | {"name": name} for case, name in zip(cases, names, strict=True)], folder)


def maps(one: dict[str, Any]) -> list[tuple[str, list[int], str, bool]]:
    """Operation, shape, dtype and whether channels-last of each map that is no tile, no score and no weight."""
    return [
        (op, shape, dtype, is_last)
        for op, shape, dtype, is_last, _ in one["maps"]
        if shape[0] in (TILES, 2 * TILES) and shape[1] > 3 and shape[2] >= 4
    ]


def test_one_copy_brings_a_batch_to_the_device(tmp_path: Path) -> None:
    for name, one in measured(OTHERS, tmp_path).items():
        check_copies(one, to_host=4 if name == "simclr" else 0)


@pytest.mark.parametrize("names", [PRESETS, WAYS], ids=["presets", "ways"])
def test_a_step_of_a_gan(names: Sequence[str], tmp_path: Path) -> None:
    """One copy a batch, maps in bf16 and channels-last, the penalty in its own precision, no more bytes than before."""
    for name, one in measured(names, tmp_path).items():
        check_copies(one)
        seen = maps(one)
        assert [each for each in seen if each[2] != "bfloat16"] == [], name
        assert len({tuple(shape) for _, shape, _, _ in seen}) >= 3  # there are some
        if name in PAYING:
            count, expected = PAYING[name]
            of_penalty = [each for each in one["maps"] if each[1][0] == count and each[1][1] > 3 and each[1][2] >= 8]
            assert {dtype for _, _, dtype, *_ in of_penalty} == {expected}
        if name in ("wgan_gp", "gan", "relativistic", "residual", "bf16_penalty"):
            assert [each for each in seen if not each[3] and each[1][2] > 4] == [], name
        assert one["bytes"] <= MOST_MB[name] * 1e6, name


def test_collectives_are_of_tensors_on_the_device(tmp_path: Path) -> None:
    """Weights, gradients, means of a row, what is finite, who got a signal, SimCLR's negatives: NCCL takes no other."""
    found = machine.measure([case | {"name": name, "processes": 2} for name, case in OF_TWO.items()], tmp_path)
    for name, least in MESSAGES.items():
        sent = collections.Counter(found[name]["collectives"])
        assert all(message.endswith(" cuda") for message in sent), (name, sent)
        assert all(sent[message] >= count for message, count in least.items()), (name, sent)


def check_copies(one: dict[str, Any], to_host: int = 0) -> None:
    """One copy a batch that nobody waits for. The loss of SimCLR takes rows out by a mask, twice forth and twice back;
    the others never wait."""
    assert one["to_device"] == one["steps"] and one["blocking"] == 0
    assert one["to_host"] <= to_host
