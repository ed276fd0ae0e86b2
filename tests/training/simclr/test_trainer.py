"""SimCLR: views by image number, the loss against the paper's equation, exact resume, and what a run leaves."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from safetensors.torch import load_file

from rnagan.config.simclr import SimCLRConfig
from rnagan.data.packed import Layout, Packed
from rnagan.data.reader import Batch
from rnagan.io.files import read_json
from rnagan.models.resnet import build_backbone, open_backbone
from rnagan.runtime import rng
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training.simclr import step, trainer
from rnagan.training.simclr.train import pretrain_simclr
from rnagan.training.simclr.views import TwoViews, normalised
from rnagan.training.tile_inputs import TileInputs

pytestmark = pytest.mark.usefixtures("no_mlflow")
TINY = SimCLRConfig(
    backbone="resnet18",
    epochs=1,
    batch_size=16,
    projection=8,
    precision="float32",
    threads=1,
    log_every=32,
    checkpoint_every=32,
)


def tiles(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def views_of(config: SimCLRConfig, resolution: int, start: int, items: np.ndarray) -> Packed:
    transform = TwoViews(config, resolution)
    packed = Packed.empty(Layout(len(items), transform.rows))
    transform.fill(start, {"items": items, "views": packed.field("views").numpy()})
    return packed


def seen(config: SimCLRConfig, resolution: int, start: int, items: np.ndarray) -> torch.Tensor:
    """What the network sees."""
    return normalised(views_of(config, resolution, start, items), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("config", "side"),
    [
        (TINY, 32),
        (TINY.replace(vertical_flips=True, grey=0.5, blur=1.0, colour_strength=0.5, smallest_crop=0.9, seed=3), 40),
        (TINY.replace(colour_strength=0.0, blur=0.0, smallest_crop=1.0), 32),  # whole tiles
    ],
)
def test_views_are_those_of_lightlys_transform_to_the_bit(config: SimCLRConfig, side: int) -> None:
    """It draws from the generators of the whole process, of PyTorch and, for its blur, of NumPy."""
    transform = SimCLRTransform(
        input_size=24,
        cj_strength=config.colour_strength,
        min_scale=config.smallest_crop,
        random_gray_scale=config.grey,
        gaussian_blur=config.blur,
        vf_prob=0.5 if config.vertical_flips else 0.0,
    )
    items, pairs = tiles(40, side), []
    for number, tile in enumerate(items, 10):
        draws = rng.generator(config.seed, "simclr views", number).integers(2**32, size=2, dtype=np.uint32)
        torch.default_generator.manual_seed(int(draws[0]))
        np.random.seed(draws[1])
        pairs.append(transform(Image.fromarray(tile)))
    first, second = zip(*pairs, strict=True)
    x = seen(config, 24, 10, items)
    assert torch.equal(x, torch.stack([*first, *second]))
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_views_follow_seed_and_image_number_alone() -> None:
    items = tiles(6)
    torch.manual_seed(7)
    np.random.seed(7)
    expected = np.random.random(), torch.rand(1)
    torch.manual_seed(7)
    np.random.seed(7)
    whole = seen(TINY, 24, 10, items)
    assert whole.shape == (12, 3, 24, 24) and whole.dtype == torch.float32
    assert (np.random.random(), torch.rand(1)) == expected  # generators of the process are left alone
    assert torch.equal(seen(TINY, 24, 12, items[2:4]), torch.cat([whole[2:4], whole[8:10]]))
    assert not torch.equal(whole[:6], whole[6:])
    same = seen(TINY, 24, 0, np.repeat(items[:1], 2, axis=0))
    assert not torch.equal(same[0], same[1])
    assert not torch.equal(seen(TINY.replace(seed=1), 24, 10, items), whole)


def test_threads_make_the_views_that_one_makes() -> None:
    items, parts = tiles(32), [range(at, at + 4) for at in range(0, 32, 4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda part: views_of(TINY, 24, part.start, items[part]).field("views"), parts))
    whole = views_of(TINY, 24, 0, items)
    assert torch.equal(torch.cat(made), whole.field("views"))
    sent = pickle.loads(pickle.dumps(TwoViews(TINY, 24)))  # as a loader's process gets it
    again = torch.empty_like(whole.field("views"))
    sent.fill(0, {"items": items, "views": again.numpy()})
    assert torch.equal(again, whole.field("views"))


def nt_xent(z: np.ndarray, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020, word for word: z (2n, width), tile k is rows k and n + k."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = sum(np.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i)
        losses.append(-np.log(np.exp(z[i] @ z[j] / temperature) / others))
    return float(np.mean(losses))


def test_loss_is_the_papers_and_not_that_of_each_half_alone() -> None:
    z = np.random.default_rng(0).normal(size=(12, 5))
    found = step.contrastive_loss(torch.from_numpy(z), 0.5, 1)
    assert found.loss.item() == pytest.approx(nt_xent(z, 0.5), abs=1e-12)
    halves = [np.concatenate([z[:3], z[6:9]]), np.concatenate([z[3:6], z[9:]])]
    assert abs(np.mean([nt_xent(half, 0.5) for half in halves]) - nt_xent(z, 0.5)) > 0.1


def test_spread_is_one_on_the_sphere_and_nothing_where_all_is_one_point() -> None:
    spread = step.contrastive_loss(torch.randn(4000, 16, generator=torch.manual_seed(0)), 0.5, 1).spread
    assert spread.item() == pytest.approx(1, abs=0.02)
    assert step.contrastive_loss(torch.ones(8, 16), 0.5, 1).spread.item() == pytest.approx(0, abs=1e-6)


def test_the_learning_rate_is_torchs_cosine() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=TINY.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    for number in range(7):
        assert trainer.learning_rate(TINY, number, 7) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.slow
@pytest.mark.guard
def test_a_broken_run_goes_on_bit_by_bit_and_its_backbone_is_taken_over(
    inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert pretrain_simclr(TINY, inputs.shards, whole)
    train_step = trainer.SimCLRTrainer.train_step

    def fails(own: trainer.SimCLRTrainer, batch: Batch) -> None:
        if own.step == 3:
            raise KeyboardInterrupt
        train_step(own, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.SimCLRTrainer, "train_step", fails)
        pretrain_simclr(TINY, inputs.shards, broken)
    assert latest_checkpoint(broken).name == "000000000032"
    assert not (broken / "backbone.json").exists()
    assert pretrain_simclr(TINY, inputs.shards, broken)
    one, two = (load_file(run / "backbone.safetensors") for run in (whole, broken))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert [row["images"] for row in read_metrics(broken)] == [row["images"] for row in read_metrics(whole)]

    record = read_json(broken / "backbone.json")
    assert (record["backbone"], record["resolution"], record["donors"]) == ("resnet18", 32, None)
    network, _ = build_backbone("resnet18", "batch", 9)
    open_backbone(broken).load_into(network)
    assert torch.equal(network.conv1.weight, one["conv1.weight"])
    untrained, _ = build_backbone("resnet18", "batch", TINY.seed)
    assert not torch.equal(network.conv1.weight, untrained.conv1.weight)

    assert pretrain_simclr(TINY.replace(log_every=5), inputs.shards, broken)  # up to date
    with pytest.raises(ValueError, match="holds a run with other settings .lr 0.06 → 0.1"):
        pretrain_simclr(TINY.replace(lr=0.1), inputs.shards, broken)


def test_a_cohort_table_keeps_held_out_donors_out(inputs: TileInputs, tmp_path: Path, capsys) -> None:
    config = TINY.replace(batch_size=4)
    assert pretrain_simclr(config, inputs.shards, tmp_path / "run", inputs.cohort, dry_run=True)
    assert "of 10 slides, 32 px" in capsys.readouterr().out
    assert pretrain_simclr(config, inputs.shards, tmp_path / "run", dry_run=True)
    assert "of 24 slides, 32 px" in capsys.readouterr().out
    with pytest.raises(ValueError, match="where chooses rows of a cohort table; add --cohort"):
        pretrain_simclr(config.replace(where="tissue=lung"), inputs.shards, tmp_path / "run")
