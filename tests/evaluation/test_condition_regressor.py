import numpy as np
import torch

from rnagan.evaluation.tile_networks import train_condition_regressor, within_tissue


def coloured(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Profiles whose first unit is in the redness of three to five tiles; the second can't be seen."""
    draw = np.random.default_rng(seed)
    targets = draw.normal(size=(count, 2)).astype(np.float32)
    tiles = []
    for k in range(count):
        own = draw.integers(60, 120, (3 + k % 3, 16, 16, 3))
        own[..., 0] = np.clip(150 + 35 * targets[k, 0] + draw.normal(0, 8, own.shape[:3]), 0, 255)
        tiles.append(own.astype(np.uint8))
    return tiles, targets


def test_reads_what_is_in_the_tiles_and_nothing_else() -> None:
    tiles, targets = coloured(60, 0)
    held_out, true = coloured(40, 1)
    reader = train_condition_regressor(tiles, targets, *coloured(20, 2), seed=3, steps=60)
    read = np.stack([reader.read(own) for own in held_out])
    assert read.shape == (40, 2) and read.dtype == np.float32
    assert np.corrcoef(read[:, 0], true[:, 0])[0, 1] > 0.9
    assert abs(np.corrcoef(read[:, 1], true[:, 1])[0, 1]) < 0.5 and read[:, 1].std() < 0.3  # nothing to be read


def test_equal_seeds_learn_equal_readers() -> None:
    readers = [train_condition_regressor(*coloured(6, 0), *coloured(3, 1), seed=seed, steps=3) for seed in (1, 1, 2)]
    one, again, other = (reader.read(coloured(1, 2)[0][0]) for reader in readers)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_state_with_the_least_error_on_held_out_profiles_is_kept() -> None:
    """Four donors, and a unit that tiles don't hold: going on learns them by heart."""
    tiles, targets = coloured(4, 0)
    held_out, true = coloured(30, 1)
    reader, last = (
        train_condition_regressor(tiles, targets, *validation, seed=0, steps=64, lr=1e-2)
        for validation in ((held_out, true), (tiles, targets))
    )
    kept, by_heart = (np.stack([one.read(own) for own in held_out]) for one in (reader, last))
    assert reader.error == np.square(kept - true).mean() < np.square(by_heart - true).mean()
    assert last.error < 0.3 < reader.error


def test_targets_are_within_tissues_of_the_training_profiles() -> None:
    draw = np.random.default_rng(0)
    tissues = ["lung"] * 30 + ["cortex"] * 30
    c = draw.normal(size=(60, 3)) * [1, 2, 0] + 10 * (np.array(tissues) == "lung")[:, None]
    train = np.arange(60) % 3 > 0
    targets, sd = within_tissue(c.astype(np.float32), tissues, train)
    for tissue in ("lung", "cortex"):
        rows = (np.array(tissues) == tissue) & train
        np.testing.assert_allclose(targets[rows].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(targets[rows] * sd, c[rows] - c[rows].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(targets[train, :2].std(axis=0), 1, atol=1e-5)
    assert np.abs(targets[:, 2]).max() == 0  # no variation: nothing, not infinity
    assert np.abs(targets[~train].mean(axis=0)).max() > 1e-3  # others are not used
    # known wrong: around the mean of all, which says tissue
    assert abs((c - c.mean(axis=0))[np.array(tissues) == "lung"].mean()) > 4


def test_training_leaves_torchs_own_randomness_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    train_condition_regressor(*coloured(4, 0), *coloured(3, 1), steps=2)
    assert torch.equal(torch.rand(1), expected)
