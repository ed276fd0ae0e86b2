"""A flow's run: what it leaves, resume to the bit, one process as two, and what is refused."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from rnagan import RNAGAN
from rnagan.commands.generate_tiles import main as generate_command
from rnagan.commands.train_flow import main as train_command
from rnagan.config.flow import FlowConfig
from rnagan.export import Card, export_model
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json, sha256_of_file
from rnagan.models.flow import solve
from rnagan.models.flow_generator import FlowGenerator
from rnagan.tracking.run_folder import RunFolder, latest_checkpoint, read_metrics
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.tile_trainer import TileTrainer
from rnagan.training.train_tiles import train_tiles
from tests import programs

ROOT = Path(__file__).parents[3]
SETTINGS = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
WITHOUT_SYNC = """
import runpy, sys
from rnagan.training.flow.step import FlowStep
before = FlowStep.__call__
def alone(self, *arguments):
    self.generator = self.raw_generator  # past DistributedDataParallel, which would have averaged the gradients
    return before(self, *arguments)
FlowStep.__call__ = alone
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
WITHOUT_RNAGAN = """
import sys
sys.modules["rnagan"] = None  # whoever imports it fails
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
folder, given, made = sys.argv[1:]
x = load_file(given)["x"]
unet = UNet2DModel.from_pretrained(folder + "/unet", use_safetensors=True).eval()
scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder + "/scheduler")
none = load_file(folder + "/projection.safetensors")["null"].expand(len(x), -1)
scheduler.set_timesteps(sigmas=[1.0, 0.5])
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, none).sample, t, x).prev_sample
save_file({"x": x}, made)
"""
pytestmark = pytest.mark.usefixtures("no_mlflow")


@pytest.fixture(scope="session")
def tiny() -> FlowConfig:
    """Six steps; checkpoints after steps 3 and 6."""
    return FlowConfig(
        resolution=32,
        block_px=4,
        images=48,
        batch_size=8,
        width=8,
        levels=2,
        layers=1,
        sampling_steps=2,
        ema_half_life=100,
        window_slides=4,
        precision="float32",
        threads=1,
        log_every=16,
        sample_every=48,
        checkpoint_every=24,
        validate_every=0,
    )


@pytest.fixture(scope="module")
def flow(tiny: FlowConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `tiny`; read it only."""
    run = tmp_path_factory.mktemp("flow") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnagan.tracking.run_log.RunLog._start_mlflow", lambda *_: None)
        train_tiles(tiny, inputs, run)
    return run


def test_an_exported_flow_makes_the_same_without_this_project(
    flow: Path, inputs: TileInputs, tiny: FlowConfig, tmp_path: Path
) -> None:
    export_model(flow, tmp_path / "out", Card("Toy", "apache-2.0", "Toy data."))
    model = RNAGAN.from_pretrained(tmp_path / "out", "cpu")
    assert isinstance(model.generator, FlowGenerator) and model.bottleneck is not None
    network = model.generator.network
    noise = torch.randn(2, 3 * tiny.block_px**2, *[tiny.resolution // tiny.block_px] * 2)
    save_file({"x": noise}, tmp_path / "noise.safetensors")
    words = [str(tmp_path / name) for name in ("out/model", "noise.safetensors", "made.safetensors")]
    subprocess.run([sys.executable, "-I", "-c", WITHOUT_RNAGAN, *words], check=True)
    made = load_file(tmp_path / "made.safetensors")["x"]
    c, dropped = torch.zeros(2, model.bottleneck.width), torch.ones(2, dtype=torch.bool)
    with torch.no_grad():
        own = solve(lambda x, t: network(x, t, c, dropped), noise, 2, "euler")
    assert made.std() > 0 and (own - made).abs().max() < 1e-6


def command_line(config: FlowConfig, inputs: TileInputs, run: Path) -> list[str]:
    config.save(run.with_suffix(".yaml"))
    paths = {"--shards": inputs.shards, "--cohort": inputs.cohort, "--expression": inputs.expression}
    paths |= {"--vae": inputs.vae, "--out": run, "--config": run.with_suffix(".yaml")}
    return [str(word) for pair in paths.items() for word in pair]


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = latest_checkpoint(run)
    assert newest is not None
    return {
        f"{name}.{key}": own
        for name in ("generator", "average")
        for key, own in load_file(newest / f"{name}.safetensors").items()
    }


def test_a_run_leaves_a_model_that_generates(flow: Path, inputs: TileInputs, tiny: FlowConfig) -> None:
    run = RunFolder.open(flow)
    assert (run.kind, run.images, run.finished) == ("flow", 48, True)
    rows = read_metrics(flow)
    assert [row["images"] for row in rows] == [16, 24, 32, 48]
    assert all(np.isfinite(row["loss"]) and row["gradient_norm/generator"] > 0 for row in rows)
    assert read_json(latest_checkpoint(flow) / "state.json")["kind"] == "flow"
    assert len(run.sample_grids()) == 1
    record = read_json(flow / "model/model.json")
    assert record["family"] == "flow" and record["images"] == 48
    names = {path.relative_to(flow / "model").as_posix() for path in (flow / "model").rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("vae/")} == {
        "config.yaml",
        "condition.safetensors",
        "model.json",
        "projection.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    }
    model = RNAGAN.from_pretrained(flow, "cpu")
    assert model.config == tiny
    assert model.sampling == {"truncation": 1.0, "guidance": 1.0, "steps": 2, "solver": "heun"}
    profiles = open_profiles(inputs.expression)[:2].copy()
    tiles = model.generate(profiles, 2, seed=1)
    assert tiles.shape == (2, 2, 32, 32, 3) and tiles.std() > 0
    stored = weights(flow)
    for name, own in model.generator.network.state_dict().items():
        assert torch.equal(own, stored[f"average.{name}"]), name
    other = model.with_options(guidance=3.0)
    assert other.unusual_sampling == {"guidance": 3.0}
    assert not np.array_equal(other.generate(profiles, 2, seed=1), tiles)


def test_a_command_generates_with_options_and_tiles_say_so(flow: Path, inputs: TileInputs, tmp_path: Path) -> None:
    words = ["--model", flow, "--profiles", inputs.expression, "--sample", "D0-lung", "--n", 1, "--device", "cpu"]
    words += ["--guidance", 2, "--sampling-steps", 1, "--solver", "euler", "--out", tmp_path / "tiles"]
    done = CliRunner().invoke(generate_command, list(map(str, words)))
    assert done.exit_code == 0, done.output
    record = read_json(tmp_path / "tiles/generated.json")
    assert {name: record[name] for name in ("truncation", "guidance", "steps", "solver")} == {
        "truncation": 1.0,
        "guidance": 2.0,
        "steps": 1,
        "solver": "euler",
    }


def test_a_flow_that_never_dropped_its_condition_has_no_guidance() -> None:
    own = FlowGenerator(FlowConfig(condition_dropout=0.1), None)  # type: ignore[arg-type]
    assert "guidance" in own.card
    assert "guidance" not in FlowGenerator(FlowConfig(condition_dropout=0), None).card  # type: ignore[arg-type]


def test_a_gan_has_no_guidance(trained: Path) -> None:
    model = RNAGAN.from_pretrained(trained, "cpu")
    with pytest.raises(ValueError, match="A model of family gan has no guidance; its options are truncation"):
        model.with_options(guidance=2.0)
    assert model.with_options(truncation=0.5).unusual_sampling == {"truncation": 0.5}


@pytest.mark.slow
@pytest.mark.guard
def test_an_interrupted_run_goes_on_to_the_same_bits(
    flow: Path, tiny: FlowConfig, inputs: TileInputs, tmp_path: Path
) -> None:
    one_step = TileTrainer._one_step

    def cut(trainer: TileTrainer, batch: object) -> object:
        if trainer.steps == 4:
            raise KeyboardInterrupt
        return one_step(trainer, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TileTrainer, "_one_step", cut)
        train_tiles(tiny, inputs, tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run").name == "000000000024"
    train_tiles(tiny, inputs, tmp_path / "run")
    for path in latest_checkpoint(flow).glob("*.safetensors"):
        assert sha256_of_file(latest_checkpoint(tmp_path / "run") / path.name) == sha256_of_file(path), path.name
    assert RNAGAN.from_pretrained(tmp_path / "run", "cpu").digest == RNAGAN.from_pretrained(flow, "cpu").digest


def test_runs_of_other_settings_and_families_are_refused(
    flow: Path, trained: Path, small: object, tiny: FlowConfig, inputs: TileInputs, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(flow, tmp_path / "run"))
    with pytest.raises(ValueError, match=r"other settings \(lr 0.0004 → 0.001\)"):
        train_tiles(tiny.replace(lr=1e-3), inputs, run)
    with pytest.raises(ValueError, match="holds a run of another kind"):
        train_gan(small, inputs, run)
    with pytest.raises(ValueError, match="holds a run of another kind"):
        train_tiles(tiny, inputs, trained)
    with pytest.raises(ValueError, match="is a flow; a GAN starts from a GAN"):
        train_gan(small, dataclasses.replace(inputs, init_from=flow), tmp_path / "new")


def test_a_model_of_a_family_that_is_not_known_or_that_was_added_to_is_refused(flow: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(flow / "model", tmp_path / "model"))
    (model / "unet/modelling.py").write_text("print('run me')")
    with pytest.raises(ValueError, match=r"changed after training|holds 'modelling.py', which is no part of it"):
        RNAGAN.from_pretrained(model, "cpu")
    (model / "unet/modelling.py").unlink()
    record = read_json(model / "model.json")
    (model / "model.json").write_text(json.dumps(record | {"family": "diffusion"}))
    with pytest.raises(ValueError, match="no family 'diffusion' of generators"):
        RNAGAN.from_pretrained(model, "cpu")


def test_a_dry_run_prints_settings_and_size(tiny: FlowConfig, inputs: TileInputs, tmp_path: Path) -> None:
    done = CliRunner().invoke(train_command, [*command_line(tiny, inputs, tmp_path / "run"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "condition_dropout: 0.1" in done.output and not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def one_process(tiny: FlowConfig, inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Weights after the steps of `exact(tiny)` on one process."""
    run = tmp_path_factory.mktemp("one") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnagan.tracking.run_log.RunLog._start_mlflow", lambda *_: None)
        train_tiles(exact(tiny), inputs, run)
    return weights(run)


def exact(config: FlowConfig) -> FlowConfig:
    return config.replace(precision="float64", sample_every=1000, checkpoint_every=1000)


def largest_difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys() and {own.dtype for own in two.values()} == {torch.float64}
    return max((one[name] - two[name]).abs().max().item() for name in one)


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
def test_two_processes_equal_one(tiny: FlowConfig, inputs: TileInputs, one_process: dict, tmp_path: Path) -> None:
    words = command_line(exact(tiny), inputs, tmp_path / "two")
    programs.run(ROOT / "tools/train_flow.py", *words, env=SETTINGS, processes=2).check()
    assert largest_difference(one_process, weights(tmp_path / "two")) < 1e-6


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.distributed
def test_two_processes_without_common_gradients_differ(
    tiny: FlowConfig, inputs: TileInputs, one_process: dict, tmp_path: Path
) -> None:
    (tmp_path / "wrong.py").write_text(WITHOUT_SYNC)
    words = command_line(exact(tiny), inputs, tmp_path / "two")
    programs.run(tmp_path / "wrong.py", ROOT / "tools/train_flow.py", *words, env=SETTINGS, processes=2).check()
    assert largest_difference(one_process, weights(tmp_path / "two")) > 1e-4


@pytest.mark.slow
def test_a_flow_is_validated_and_its_best_is_kept(tiny: FlowConfig, inputs: TileInputs, tmp_path: Path) -> None:
    config = tiny.replace(validate_every=24, validation_tiles=24, sample_every=1000)
    assert train_tiles(config, inputs, tmp_path / "run")
    assert sum(any(name.startswith("frechet_") for name in row) for row in read_metrics(tmp_path / "run")) == 2
    assert RNAGAN.from_pretrained(tmp_path / "run/model-best", "cpu").generator.family == "flow"
