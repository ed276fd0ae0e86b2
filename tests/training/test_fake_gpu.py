"""The trainers' steps on a GPU that isn't there (benchmarks/fake_gpu): real code, fake tensors, nothing computed."""

import sys
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
    pytest.mark.timeout(1200),
    pytest.mark.skipif(machine.what_is_missing() is not None, reason=str(machine.what_is_missing())),
]
GUARD = pytest.mark.guard
PAYING = {"wgan_gp": 3, "relativistic": 6}  # tiles that pay the penalty
# A batch of 12, and 24 with real and generated tiles: no other size is one of them. One tile in 4 pays the penalty.
TILES = 12
SMALL = {"batch_size": TILES, "resolution": 32, "penalty_every": 4}
PRESETS = ("wgan_gp", "paper", "released", "relativistic", "features", "two_critics")
GANS = {
    **{preset: (preset, {}) for preset in PRESETS},
    "gan": ("faithful", {"mode": "gan"}),
    "accumulate": ("faithful", {"batch_size": 2 * TILES, "accumulate": 2}),
    "critic_steps": ("faithful", {"critic_steps": 2}),
    "both": ("two_critics", {"batch_size": 2 * TILES, "accumulate": 2, "critic_steps": 2}),
}
# Most bytes that a round of steps may touch, in MB. They may fall.
MOST_MB = {
    "wgan_gp": 302,
    "paper": 424,
    "released": 456,
    "relativistic": 355,
    "features": 1402,
    "two_critics": 1669,
    "gan": 286,
    "accumulate": 651,
    "critic_steps": 512,
    "both": 6211,
}


OTHERS = {
    "vae": {"kind": "vae", "preset": "faithful", "settings": {"batch_size": 8, "gene_dropout": 0.5}},
    "simclr": {"kind": "simclr", "preset": "paper", "settings": {"batch_size": 6, "resolution": 32}},
}
# Of the GANs, those that CI runs: the default and the pair with all that a step may have.
GUARDS = ("wgan_gp", "both")


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Counts of a case."""
    if name in OTHERS:
        case = OTHERS[name]
    else:
        preset, own = GANS[name]
        case = {"kind": "gan", "preset": preset, "settings": SMALL | own}
    return machine.measure([case | {"name": name}], folder)[name]


def maps(one: dict[str, Any]) -> list[tuple[str, list[int], str, bool]]:
    """Operation, shape, dtype and whether channels-last of each map that is no tile, no score and no weight."""
    return [
        (op, shape, dtype, is_last)
        for op, shape, dtype, is_last, _ in one["maps"]
        if shape[0] in (TILES, 2 * TILES) and shape[1] > 3 and shape[2] >= 4
    ]


@GUARD
@pytest.mark.parametrize("name", OTHERS)
def test_one_copy_brings_a_batch_to_the_device(name: str, tmp_path: Path) -> None:
    check_copies(measured(name, tmp_path), to_host=4 if name == "simclr" else 0)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[GUARD] * (name in GUARDS)) for name in GANS])
def test_a_step_of_a_gan(name: str, tmp_path: Path) -> None:
    """One copy a batch, maps in bf16 and channels-last, the penalty in float32, and no more bytes than before."""
    one = measured(name, tmp_path)
    check_copies(one)
    seen = maps(one)
    assert [each for each in seen if each[2] != "bfloat16"] == []
    assert len({tuple(shape) for _, shape, _, _ in seen}) >= 3  # there are some
    if name in PAYING:
        dtypes = {dtype for _, shape, dtype, *_ in one["maps"] if shape[0] == PAYING[name] and shape[2] >= 8}
        assert dtypes == {"float32"}
    if name in ("wgan_gp", "gan", "relativistic"):
        assert [each for each in seen if not each[3] and each[1][2] > 4] == []
    assert one["bytes"] <= MOST_MB[name] * 1e6


def check_copies(one: dict[str, Any], to_host: int = 0) -> None:
    """One copy a batch that nobody waits for. The loss of SimCLR takes rows out by a mask, twice forth and twice back;
    the others never wait."""
    assert one["to_device"] == one["steps"] and one["blocking"] == 0
    assert one["to_host"] <= to_host
