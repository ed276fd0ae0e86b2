import math

import pytest

from rnagan.comparison.metric_directions import HIGH, LOW, ONE, best, best_row, direction


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("frechet_efficientnet_lite0/all_200", LOW),
        ("fid10k, lung", LOW),
        ("FID", LOW),
        ("faithfulness/mean", HIGH),
        ("faithfulness/lung/site_stain", None),  # the control: neither end is better
        ("faithfulness/lung/site_stain/r", None),
        ("faithfulness/lung/air_fraction/r", HIGH),
        ("faithfulness/lung/air_fraction/slope", ONE),
        ("faithfulness/lung/air_fraction/p", None),
        ("null/faithfulness/lung/air_fraction/r", None),
        ("calibrated/faithfulness/lung/air_fraction/slope", ONE),
        ("real_pairs/C4/haematoxylin/r", HIGH),
        ("real_pairs/C4/haematoxylin/slope", ONE),
        ("real_pairs/C4/haematoxylin/ridge", None),
        ("real_pairs/C4/place", LOW),
        ("real_pairs/C4/place/ridge", None),
        ("train/on_real_tiles/lung/air_fraction/slope", None),
        ("lung/air_fraction/slope", None),  # of a dose response
        ("tissue_accuracy", HIGH),
        ("tissue_accuracy_real", None),
        ("retrieval/lung/generated/tissue/rank", LOW),
        ("retrieval/lung/generated/tissue/top5", HIGH),
        ("retrieval/lung/real/tissue/rank", None),
        ("all/fid_60k", LOW),
        ("lung/recall_fid_60k", HIGH),
        ("16_px/prominence", ONE),
        ("reconstruction/vae/rmse_z", LOW),
        ("reconstruction/pca/rmse_z", None),
        ("test_rmse", LOW),
        ("validation_total", LOW),
        ("train_total", None),
        ("generated/accuracy", HIGH),
        ("real/auc", HIGH),
        ("wasserstein", None),
        ("generator", None),
        ("penalty", None),
        ("gradient_norm/critic", None),
        ("fiddle", None),
    ],
)
def test_which_end_is_better(name: str, better: str | None) -> None:
    assert direction(name).better == better


def test_best_are_all_that_are_alike_and_of_two_at_least() -> None:
    assert best([3.0, 1.0, None, 1.0, math.nan], LOW) == {1, 3}
    assert best([3.0, 1.0, None, 1.0], HIGH) == {0}
    assert best([0.4, 1.3, 2.0], ONE) == {1}
    assert best([3.0, None, math.nan], LOW) == set() and best([3.0, 1.0], None) == set()


def test_best_row_of_a_run() -> None:
    rows = [{"images": 8, "fid": 5.0}, {"images": 16, "fid": 3.0}, {"images": 24, "fid": math.nan}, {"images": 32}]
    found = best_row(rows, "fid")
    assert found is not None and found["images"] == 16
    assert best_row(rows, "wasserstein") is None and best_row([], "fid") is None
