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
    pytest.mark.guard,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(machine.what_is_missing() is not None, reason=str(machine.what_is_missing())),
]
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


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Counts of every case."""
    gans = [
        {"name": name, "kind": "gan", "preset": preset, "settings": SMALL | own} for name, (preset, own) in GANS.items()
    ]
    others = [
        {"name": "vae", "kind": "vae", "preset": "faithful", "settings": {"batch_size": 8, "gene_dropout": 0.5}},
        {"name": "simclr", "kind": "simclr", "preset": "paper", "settings": {"batch_size": 6, "resolution": 32}},
    ]
    return machine.measure(gans + others, tmp_path_factory.mktemp("fake_gpu"))


def maps(one: dict[str, Any]) -> list[tuple[str, list[int], str, bool]]:
    """Operation, shape, dtype and whether channels-last of each map that is no tile, no score and no weight."""
    return [
        (op, shape, dtype, is_last)
        for op, shape, dtype, is_last, _ in one["maps"]
        if shape[0] in (TILES, 2 * TILES) and shape[1] > 3 and shape[2] >= 4
    ]


@pytest.mark.parametrize("name", [*GANS, "vae", "simclr"])
def test_one_copy_brings_a_batch_to_the_device(name: str, found: dict[str, dict[str, Any]]) -> None:
    one = found[name]
    assert one["to_device"] == one["steps"] and one["blocking"] == 0
    # The loss of SimCLR takes rows out by a mask, twice forth and twice back; the others never wait.
    assert one["to_host"] <= (4 if name == "simclr" else 0)


@pytest.mark.parametrize("name", GANS)
def test_no_map_is_float32_outside_the_penalty(name: str, found: dict[str, dict[str, Any]]) -> None:
    seen = maps(found[name])
    assert [one for one in seen if one[2] != "bfloat16"] == []
    assert len({tuple(shape) for _, shape, _, _ in seen}) >= 3  # there are some


def test_the_penalty_is_float32(found: dict[str, dict[str, Any]]) -> None:
    for name, paying in (("wgan_gp", TILES // 4), ("relativistic", 2 * TILES // 4)):
        dtypes = {dtype for _, shape, dtype, *_ in found[name]["maps"] if shape[0] == paying and shape[2] >= 8}
        assert dtypes == {"float32"}


@pytest.mark.parametrize("name", ["wgan_gp", "gan", "relativistic"])
def test_large_maps_stay_channels_last(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert [one for one in maps(found[name]) if not one[3] and one[1][2] > 4] == []


@pytest.mark.parametrize("name", MOST_MB)
def test_a_step_touches_no_more_bytes_than_it_did(name: str, found: dict[str, dict[str, Any]]) -> None:
    assert found[name]["bytes"] <= MOST_MB[name] * 1e6
