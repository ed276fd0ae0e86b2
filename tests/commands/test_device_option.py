"""Every command that loads a network computes where --device says."""

from pathlib import Path
from typing import Never

import pytest
import torch
from click.testing import CliRunner

from rnagan.api import RNAGAN
from rnagan.classification import cross_validation
from rnagan.commands.main import main
from rnagan.evaluation import memorization
from rnagan.latent import profiles
from rnagan.training.tile_inputs import TileInputs

MODEL, TILES, PROFILES = "--model={model}", "--shards={shards} --cohort={cohort}", "--profiles={expression}"
EXPRESSION, VAE = "--expression={expression}", "--vae={vae}"
COMMANDS = {
    "generate-tiles": f"{MODEL} {PROFILES}",
    "evaluate-faithfulness": f"{MODEL} {TILES} {EXPRESSION}",
    "evaluate-external": f"{MODEL} {TILES} {PROFILES}",
    "evaluate-vae": f"{VAE} {EXPRESSION}",
    "confounder-report": f"{MODEL} {TILES} {EXPRESSION}",
    "perturb": f"{MODEL} {PROFILES} --genes=ENSG00000000000",
    "nearest-tiles": f"{MODEL} {TILES} {EXPRESSION}",
    "compare-spectra": f"{MODEL} {TILES} {EXPRESSION}",
    "finetune-classifier": f"{TILES} --backbone=resnet18 --per-class=10 --epochs=1 --folds=2",
    "edit-profiles reconstruct": f"{VAE} {PROFILES}",
    "edit-profiles sample": VAE,
    "edit-profiles shift": f"{VAE} {PROFILES} --to=lung",
    "edit-profiles interpolate": f"{VAE} {PROFILES} --start=D0-lung --end=D1-lung",
    "edit-profiles perturb": f"{VAE} {PROFILES} --genes=ENSG00000000000 --by=1",
}


class Loaded(Exception):  # noqa: N818
    """A network was about to be loaded, or moved, onto this device."""


@pytest.fixture
def words(inputs: TileInputs, trained: Path, tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """A command line that would run."""
    given = f"{request.param} {COMMANDS[request.param]} --out={{out}}"
    return given.format(model=trained, out=tmp_path / "out", **vars(inputs)).split()


def load(device: object) -> Never:
    raise Loaded(str(device))


@pytest.mark.parametrize("words", COMMANDS, indirect=True)
def test_networks_are_loaded_onto_the_device_that_is_given(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(RNAGAN, "from_pretrained", lambda folder, device: load(device))
    monkeypatch.setattr(profiles, "load_vae", lambda folder, device: load(device))
    monkeypatch.setattr(cross_validation, "train_classifier", lambda *given: load(given[-1]))
    monkeypatch.setattr(memorization, "offline_extractor", lambda device: None)
    for option, device in (("--device=cuda:1", "cuda:1"), ("--device=cpu", "cpu"), ("--device=auto", "cuda")):
        done = CliRunner().invoke(main, [*words, option])
        assert isinstance(done.exception, Loaded), done.output
        assert str(done.exception) == device


def test_the_extractor_of_nearest_tiles_is_there_too(
    inputs: TileInputs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    open_model = RNAGAN.from_pretrained  # which comes before the extractor, and can't be on a GPU here
    monkeypatch.setattr(RNAGAN, "from_pretrained", lambda folder, device: open_model(folder, "cpu"))
    monkeypatch.setattr(memorization, "offline_extractor", load)
    given = COMMANDS["nearest-tiles"].format(model=trained, **vars(inputs)).split()
    done = CliRunner().invoke(main, ["nearest-tiles", *given, f"--out={tmp_path / 'out'}"])
    assert str(done.exception) == "cuda"


@pytest.mark.parametrize("words", COMMANDS, indirect=True)
def test_a_wrong_device_is_one_sentence_and_nothing_is_made(words: list[str], tmp_path: Path) -> None:
    for device, said in (("gpu", "'gpu' is no device; choose auto, cpu"), ("cuda:99", "There is no device cuda:99:")):
        done = CliRunner().invoke(main, [*words, f"--device={device}"])
        assert done.exit_code == 1 and done.output.startswith(f"Error: {said}") and done.output.count("\n") == 1
    assert not (tmp_path / "out").exists()
