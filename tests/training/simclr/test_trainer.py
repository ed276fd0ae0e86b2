"""SimCLR: views by image number, the loss against the paper's equation, exact resume, and what a run leaves."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from lightly.transforms import GaussianBlur
from safetensors.torch import load_file

from rnagan.config.simclr import SimCLRConfig
from rnagan.data.reader import Batch
from rnagan.io.files import read_json
from rnagan.models.resnet import build_backbone, open_backbone
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training.gan.inputs import GANInputs
from rnagan.training.simclr import step, trainer
from rnagan.training.simclr.train import pretrain_simclr

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


def batch(start: int, tiles: torch.Tensor) -> Batch:
    numbers = torch.arange(len(tiles))
    return Batch(start, tiles, numbers, numbers)


def test_views_follow_seed_and_image_number_alone() -> None:
    tiles = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8))
    views = step.TwoViews(TINY, 24)
    whole = views(batch(10, tiles)).x
    assert whole.shape == (12, 3, 24, 24) and whole.dtype == torch.float32
    np.random.seed(7)
    torch.manual_seed(7)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(7)
    torch.manual_seed(7)
    part = views(batch(12, tiles[2:4])).x
    assert (np.random.random(), torch.rand(1)) == expected  # a stranger's draws are left alone
    assert torch.equal(part, torch.cat([whole[2:4], whole[8:10]]))
    assert torch.equal(pickle.loads(pickle.dumps(views))(batch(10, tiles)).x, whole)  # as a loader's process gets it
    assert not torch.equal(whole[:6], whole[6:])
    same = views(batch(0, tiles[:1].expand(2, -1, -1, -1))).x
    assert not torch.equal(same[0], same[1])
    assert not torch.equal(step.TwoViews(TINY.replace(seed=1), 24)(batch(10, tiles)).x, whole)


def test_the_blur_draws_from_numpy_so_that_seeding_torch_alone_would_not_do() -> None:
    from PIL import Image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    blur = GaussianBlur(prob=1.0)

    def blurred() -> bytes:
        torch.manual_seed(0)
        return blur(image).tobytes()

    assert blurred() != blurred()  # the known-wrong way
    made = []
    for _ in range(2):
        with step._drawn_from(0, 3):
            made.append(blur(image).tobytes())
    assert made[0] == made[1]


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
    inputs: GANInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert pretrain_simclr(TINY, inputs.shards, whole)
    train_step = trainer.SimCLRTrainer.train_step

    def fails(own: trainer.SimCLRTrainer, views: step.Views) -> None:
        if own.step == 3:
            raise KeyboardInterrupt
        train_step(own, views)

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


def test_a_cohort_table_keeps_held_out_donors_out(inputs: GANInputs, tmp_path: Path, capsys) -> None:
    config = TINY.replace(batch_size=4)
    assert pretrain_simclr(config, inputs.shards, tmp_path / "run", inputs.cohort, dry_run=True)
    assert "of 10 slides, 32 px" in capsys.readouterr().out
    assert pretrain_simclr(config, inputs.shards, tmp_path / "run", dry_run=True)
    assert "of 24 slides, 32 px" in capsys.readouterr().out
    with pytest.raises(ValueError, match="where chooses rows of a cohort table; add --cohort"):
        pretrain_simclr(config.replace(where="tissue=lung"), inputs.shards, tmp_path / "run")
