import numpy as np
import torch

from rnagan.evaluation.tile_networks import train_tissue_classifier


def striped(count: int, rows: bool, seed: int) -> np.ndarray:
    """Grey tiles with horizontal or vertical stripes: same colours, other texture."""
    draw = np.random.default_rng(seed)
    phase = draw.integers(0, 6, (count, 1, 1))
    wave = np.broadcast_to(((np.arange(24)[None, :, None] + phase) // 3 % 2) * 90, (count, 24, 24))
    grey = (wave if rows else wave.transpose(0, 2, 1)) + draw.integers(80, 110, (count, 24, 24))
    return np.repeat(grey[..., None], 3, axis=3).astype(np.uint8)


def test_learns_texture_from_unequal_classes_and_is_repeatable() -> None:
    tiles = np.concatenate([striped(40, True, 0), striped(5, False, 1)])
    tissues = ["lung"] * 40 + ["cortex"] * 5
    classifiers = [train_tissue_classifier(tiles, tissues, seed=3, steps=40) for _ in range(2)]
    held_out = np.concatenate([striped(20, True, 2), striped(20, False, 3)])
    called = [classifier.predict(held_out) for classifier in classifiers]
    assert called[0] == called[1] == ["lung"] * 20 + ["cortex"] * 20
    assert classifiers[0].tissues == ["cortex", "lung"]
    for one, two in zip(*(c.network.parameters() for c in classifiers), strict=True):
        assert torch.equal(one, two)
    other = train_tissue_classifier(tiles, tissues, seed=4, steps=1)
    assert not torch.equal(next(other.network.parameters()), next(classifiers[0].network.parameters()))


def test_training_leaves_torchs_own_randomness_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    train_tissue_classifier(striped(4, True, 0), ["a", "a", "b", "b"], steps=1)
    assert torch.equal(torch.rand(1), expected)


def test_prediction_does_not_depend_on_how_many_are_asked() -> None:
    classifier = train_tissue_classifier(striped(8, True, 0), ["a"] * 4 + ["b"] * 4, steps=2)
    tiles = striped(300, False, 1)  # more than one batch
    parts = [classifier.predict(tiles[k : k + 50]) for k in range(0, 300, 50)]
    assert classifier.predict(tiles) == [name for part in parts for name in part]
