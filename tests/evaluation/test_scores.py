import numpy as np
import pytest
import torch
from scipy import stats

from rnagan.evaluation import device_algebra, tile_scores
from rnagan.evaluation.tile_scores import (
    FEW_TILES,
    FeatureStatistics,
    TileFeatures,
    class_score,
    extractor_of,
    few_tiles,
    floor,
    frechet_distance,
    frechet_with_interval,
    kernel_distance,
    of_few_tiles,
    precision_recall,
    score_name,
)
from tests.evaluation.pixels import Pixels


def drawn(count: int, seed: int, shift: float = 0.0, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1 + shift, (count, width)).astype(np.float32)


def of_donors(count: int, donors: int, seed: int, spread: float = 0.0, width: int = 3) -> TileFeatures:
    """TileFeatures of donors that differ by `spread`, dealt evenly."""
    draw = np.random.default_rng(seed)
    donor = np.arange(count) % donors
    means = np.random.default_rng(100).normal(size=(donors, width))[donor]
    return TileFeatures((draw.normal(size=(count, width)) + spread * means).astype(np.float32), donor)


def test_names_tell_extractor_and_counts() -> None:
    assert score_name("frechet", "inception_v3", 60_000, 60_000) == "fid_60k"
    assert score_name("kernel", "inception_v3", 60_000, 1790) == "kid_60k_vs_1790_real"
    assert score_name("frechet", "inception_v3_12345678", 60_000, 60_000) == "frechet_inception_v3_12345678_60k"
    assert score_name("frechet", "efficientnet_lite0", 500, 400) == "frechet_efficientnet_lite0_500_vs_400_real"
    for extractor in ("inception_v3", "inception_v3_0a1b2c3d", "efficientnet_lite2", "handmade", "dinov2_small"):
        for metric in ("frechet", "kernel", "precision", "recall", "class_score"):
            for counts in ((60_000, 60_000), (500, 400), (41, 41)):
                name = score_name(metric, extractor, *counts)
                for shown in (name, f"all/{name}", f"Lung (left)/{name}", f"all/{name} (fid-rnagan/fid)"):
                    assert extractor_of(shown) == extractor
    assert extractor_of("frechet_efficientnet_lite0/lung_500") == "efficientnet_lite0"
    for other in ("faithfulness/mean", "faithfulness/lung/nuclear_density", "wasserstein", "copies", "floor", "fid"):
        assert extractor_of(other) is None
    assert score_name("class_score", "inception_v3", 5000, 5000) == "inception_score_5k"


def test_kid_is_recommended_below_the_stated_count_of_tiles() -> None:
    assert FEW_TILES == 10_000 and of_few_tiles(10_000) == ""
    assert "of fewer than 10,000 tiles (here 9,999) is too large" in of_few_tiles(9_999)
    assert "go by KID (rnagan compute-fid)" in of_few_tiles(2)


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["fid_60k", "kid_60k"], None),
        (["all/fid_60k_vs_10k_real"], None),
        (["fid_60k_vs_9999_real", "kid_60k_vs_9999_real"], "9,999"),
        (["fid_9999"], "9,999"),
        (["frechet_inception_v3_12345678_60k"], None),
        (["frechet_efficientnet_lite0/all_340", "frechet_efficientnet_lite0/Lung (left)_12"], "12"),
        (["all/frechet_handmade_60k_vs_329_real (fid-rnagan/fid)"], "329"),
        (["kid_20", "precision_handmade_20", "faithfulness/mean", "spectrum/64_px", "fid"], None),
        ([], None),
    ],
)
def test_the_count_is_read_from_the_names_of_distances(names: list[str], count: str | None) -> None:
    said = few_tiles(names)
    assert said == "" if count is None else f"(here {count})" in said
    assert ("(kid_60k_vs_9999_real)" in said) == ("kid_60k_vs_9999_real" in names)


def test_few_tiles_move_the_distance_and_not_kid() -> None:
    """Tiles of one distribution: the reason for the sentence."""
    few, many = ([drawn(count, seed, width=24) for seed in (1, 2)] for count in (60, 400))
    distances = [frechet_distance(*map(FeatureStatistics.of, sides)) for sides in (few, many)]
    kernels = [kernel_distance(*sides)[0] for sides in (few, many)]
    assert distances[0] > 4 * distances[1]
    assert all(abs(value) < 0.3 for value in kernels) and abs(kernels[0] - kernels[1]) < 0.3


@pytest.mark.parametrize("counts", [(130, 120), (40, 130)])
def test_scores_are_torch_fidelitys_of_the_same_tiles(counts: tuple[int, int]) -> None:
    """Through its own command, with the same extractor registered there, features and all."""
    import torch_fidelity
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    pixels = Pixels()

    class Registered(torch_fidelity.FeatureExtractorBase):
        def __init__(self, name: str, features: list[str], **_: object) -> None:
            super().__init__(name, features)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = pixels(x.permute(0, 2, 3, 1).contiguous().numpy())
            made = {"features": torch.from_numpy(found), "logits": torch.from_numpy(pixels.logits(found))}
            return tuple(made[name] for name in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features", "logits")

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    draw = np.random.default_rng(0)
    generated, real = (
        np.clip(draw.normal(120 + 30 * k, 40 + 10 * k, (count, 32, 32, 3)), 0, 255).astype(np.uint8)
        for k, count in enumerate(counts)
    )

    class Images(torch.utils.data.Dataset):
        def __init__(self, tiles: np.ndarray) -> None:
            self.tiles = tiles

        def __len__(self) -> int:
            return len(self.tiles)

        def __getitem__(self, k: int) -> torch.Tensor:
            return torch.from_numpy(self.tiles[k]).permute(2, 0, 1)

    FEATURE_EXTRACTORS_REGISTRY["pixels"] = Registered
    reference = torch_fidelity.calculate_metrics(
        input1=Images(generated),
        input2=Images(real),
        cuda=False,
        batch_size=7,
        fid=True,
        kid=True,
        prc=True,
        isc=True,
        feature_extractor="pixels",
        kid_subset_size=min(counts),
        verbose=False,
        cache=False,
    )
    features = pixels(generated), pixels(real)
    value, _, _ = frechet_with_interval(*(TileFeatures(own, np.arange(len(own))) for own in features))
    assert value == pytest.approx(reference["frechet_inception_distance"], rel=1e-6)
    mean, sd = kernel_distance(*features)
    assert mean == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-6)
    assert sd == pytest.approx(reference["kernel_inception_distance_std"], rel=1e-6, abs=1e-12)
    assert precision_recall(*features) == pytest.approx((reference["precision"], reference["recall"]), rel=1e-6)
    assert class_score(pixels.logits(features[0]))[0] == pytest.approx(reference["inception_score_mean"], rel=1e-6)
    # known to be wrong: covariances of n instead of n - 1, or around no mean
    for wrong in (lambda x: np.cov(x, rowvar=False, bias=True), lambda x: x.T @ x / (len(x) - 1)):
        a, b = (FeatureStatistics(2, own.mean(0, dtype=np.float64), wrong(own.astype(float))) for own in features)
        assert abs(frechet_distance(a, b) / value - 1) > 1e-4


def test_precision_is_of_generated_and_recall_of_real_tiles() -> None:
    real = drawn(200, 0)
    typical, wide = 0.2 * drawn(200, 1), 3 * drawn(200, 2)
    assert precision_recall(typical, real)[0] > 0.9 > 0.5 > precision_recall(typical, real)[1]
    assert precision_recall(wide, real)[0] < 0.5 < precision_recall(wide, real)[1]


def test_jackknife_leaves_out_one_donor_after_another() -> None:
    generated, real = of_donors(60, 6, 0), of_donors(48, 6, 1, spread=3.0)
    value, low, high = frechet_with_interval(generated, real)
    without = np.array(
        [
            frechet_distance(*(FeatureStatistics.of(side.features[side.donors != donor]) for side in (generated, real)))
            for donor in range(6)
        ]
    )
    error = np.sqrt(5 / 6 * np.sum((without - without.mean()) ** 2))
    reach = stats.t.ppf(0.975, 5) * error
    assert (low, high) == pytest.approx((value - reach, value + reach), rel=1e-6)
    tiles = (
        TileFeatures(generated.features, np.arange(60)),
        TileFeatures(real.features, np.arange(48)),
    )  # wrong: over tiles
    alone = frechet_with_interval(*tiles)
    assert alone[2] is not None and high is not None and low is not None and alone[1] is not None
    assert (high - low) > 1.5 * (alone[2] - alone[1])
    assert frechet_with_interval(of_donors(20, 2, 0), of_donors(20, 2, 1))[1:] == (None, None)


def test_floor_is_of_donors_that_the_other_half_has_not() -> None:
    """Where donors differ, halves of tiles that share donors (the wrong variant) lie much nearer to one another."""
    real, generated = of_donors(400, 10, 0, 2.0), of_donors(600, 10, 1, 2.0)
    tissue = np.array(["a", "b"] * 5)
    found = floor(generated, real, tissue)
    assert found is not None and found.tiles == pytest.approx(200, abs=41) and found.halvings == 4
    sharing = frechet_distance(FeatureStatistics.of(real.features[:200]), FeatureStatistics.of(real.features[200:]))
    assert found.floor > 5 * sharing
    assert found.matched == pytest.approx(found.floor, rel=0.3)  # generated tiles are drawn as real ones are
    assert floor(generated, real, tissue) == found
    further = floor(TileFeatures(generated.features + 3, generated.donors), real, tissue)
    assert further is not None and further.matched > found.matched + 10


def test_halves_take_as_many_donors_of_every_tissue() -> None:
    tissue = np.array(["a"] * 4 + ["b"] * 7)
    for seed in range(5):
        half = tile_scores._halves(np.arange(11), tissue, np.random.default_rng(seed))
        assert half[:4].sum() == 2 and half[4:].sum() in (3, 4)
    assert floor(of_donors(4, 1, 0), of_donors(4, 1, 1), np.array(["a"])) is None


def test_statistics_without_a_part_are_those_of_the_rest() -> None:
    x = drawn(50, 0).astype(np.float64) + 100
    left = FeatureStatistics.of(x).without(FeatureStatistics.of(x[:13]))
    np.testing.assert_allclose(left.covariance, np.cov(x[13:], rowvar=False), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(left.mean, x[13:].mean(0), rtol=1e-12)


def test_a_gpu_finds_the_scores_that_a_cpu_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its algebra, on the CPU: more tiles than a batch of distances has rows, and more than features have numbers."""
    placed = device_algebra._on
    monkeypatch.setattr(device_algebra, "_on", lambda values, device: placed(values, torch.device("cpu")))
    monkeypatch.setattr(tile_scores, "_PRC_BATCH", 64)
    monkeypatch.setattr(tile_scores, "PIECE", 70)
    gpu = torch.device("cuda")
    mixed = [(drawn(200, seed) @ drawn(6, seed + 2)).astype(np.float32) for seed in (0, 1)]
    sides = [TileFeatures(own, np.arange(200) % 6) for own in mixed]
    tissues = np.array(["lung", "colon"] * 3)
    assert frechet_with_interval(*sides, 0, gpu) == pytest.approx(frechet_with_interval(*sides), rel=1e-9)
    assert floor(*sides, tissues, 0, gpu) == pytest.approx(floor(*sides, tissues), rel=1e-9)
    found = precision_recall(sides[0].features, sides[1].features, gpu)
    assert found == pytest.approx(precision_recall(sides[0].features, sides[1].features), rel=1e-6)
    assert 0.1 < found[0] != found[1] > 0.1
    # known to be wrong: the roots of the eigenvalues of each, as if they had the same vectors
    a, b = (FeatureStatistics.of(side.features) for side in sides)
    roots = [np.sqrt(np.linalg.eigvalsh(own.covariance)) for own in (a, b)]
    right = device_algebra.trace_of_root(a.covariance, b.covariance, gpu)
    assert abs(roots[0] @ roots[1] / right - 1) > 1e-3
