"""A model folder that one gives away, or gets: known plain files, and weights as large as its file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rnagan import RNAGAN, api
from rnagan.api import digest_of_folder, write_model
from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.io.files import sha256_of_file
from rnagan.models import encoder_folder
from rnagan.models.conditioning import Bottleneck
from rnagan.models.generators import build_generator
from rnagan.models.trained_vae import load_vae
from rnagan.training.warm_start import EarlierRun
from tests.disks import small_disk

SAVED = Path(__file__).parents[1] / "saved/run/model"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED, tmp_path / "model"))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.csv"
    path.write_text("patient,diagnosis\n")
    return path


def seal(folder: Path) -> None:
    """Make the digests of a model folder, and of the β-VAE in it, those of its files of now."""
    vae = folder / "vae"
    if (vae / "model.json").is_file():
        record = json.loads((vae / "model.json").read_text())
        record["files"] = {name: sha256_of_file(vae / name) for name in record["files"]}
        (vae / "model.json").write_text(json.dumps(record))
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"digest": digest_of_folder(folder)}))


def write(folder: Path, model: Path, link_vae: bool) -> str:
    """Write a model folder with the VAE of another; its digest."""
    config = load_config(GANConfig, model / "config.yaml")
    bottleneck = Bottleneck(torch.arange(4), torch.zeros(4), torch.ones(4))
    torch.manual_seed(0)
    write_model(folder, config, build_generator(config, 4).state_dict(), bottleneck, model / "vae", {}, link_vae)
    return json.loads((folder / "model.json").read_text())["digest"]


def set_in(path: Path, **settings: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))


STRANGE: dict[str, Callable[[Path, Path], object]] = {
    "link beside": lambda folder, secret: (folder / "notes.csv").symlink_to(secret),
    "link to a folder": lambda folder, secret: (folder / "more").symlink_to(secret.parent),
    "link in place of a file": lambda folder, secret: (
        shutil.move(folder / "config.yaml", secret.parent / "c"),
        (folder / "config.yaml").symlink_to(secret.parent / "c"),
    ),
    "unknown file": lambda folder, secret: shutil.copy(secret, folder / "patients.csv"),
    "folder": lambda folder, secret: (folder / "__pycache__").mkdir(),
}


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize("strange", STRANGE)
def test_a_folder_with_links_or_strange_files_is_neither_loaded_nor_copied(
    model: Path, secret: Path, tmp_path: Path, strange: str
) -> None:
    STRANGE[strange](model / "vae", secret)
    sentence = r"vae holds '.*', which is (a link|no part of it); take it out, or copy the folder again"
    with pytest.raises(ValueError, match=sentence):
        load_vae(model / "vae")
    with pytest.raises(ValueError, match=sentence):
        write(tmp_path / "given", model, link_vae=False)
    assert not (tmp_path / "given").exists()
    shutil.copytree(SAVED / "vae", tmp_path / "clean")
    shutil.rmtree(model / "vae")
    (tmp_path / "clean").rename(model / "vae")
    STRANGE[strange](model, secret)
    seal(model)
    with pytest.raises(ValueError, match=r"model holds '.*', which is (a link|no part of it)"):
        RNAGAN.from_pretrained(model, "cpu")


def test_a_vae_is_linked_where_its_disk_allows_and_copied_elsewhere(model: Path, tmp_path: Path) -> None:
    def is_linked(folder: Path) -> set[bool]:
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        return {path.samefile(model / "vae" / path.name) for path in (folder / "vae").iterdir()}

    copied, linked = write(tmp_path / "copied", model, False), write(tmp_path / "linked", model, True)
    with small_disk(tmp_path / "disk", "2m") as disk:
        assert write(disk / "model", model, True) == copied == linked == digest_of_folder(disk / "model")
        assert is_linked(disk / "model") == is_linked(tmp_path / "copied") == {False}
    assert is_linked(tmp_path / "linked") == {True}
    write(tmp_path / "linked", model, True)  # as after the next validation
    assert (load_vae(tmp_path / "linked/vae").record == load_vae(model / "vae").record) and model.is_dir()


def test_a_vae_that_does_not_change_is_read_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    for module in (api, encoder_folder):
        monkeypatch.setattr(module, "sha256_of_file", lambda path: (read.append(path.name), sha256_of_file(path))[1])
    write(tmp_path / "first", model, True)
    assert "vae.safetensors" in read
    read.clear()
    write(tmp_path / "second", model, True)
    assert "vae.safetensors" not in read and "generator.safetensors" in read
    path = model / "vae/transform.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # as many bytes
    with pytest.raises(ValueError, match=r"transform\.safetensors is missing or was changed after training"):
        write(tmp_path / "third", model, True)


@pytest.mark.attack(kind=1)
def test_a_link_in_place_of_the_vae_is_refused(model: Path, tmp_path: Path) -> None:
    (model / "vae").rename(tmp_path / "vae")
    (model / "vae").symlink_to(tmp_path / "vae")
    with pytest.raises(ValueError, match=r"model holds 'vae', which is a link"):
        RNAGAN.from_pretrained(model, "cpu")


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize("name", ["../../secret.csv", "/etc/passwd", "notes.csv"])
def test_a_record_that_lists_other_files_is_refused(model: Path, name: str) -> None:
    path = model / "vae/model.json"
    record = json.loads(path.read_text())
    record["files"][name] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"model\.json must list the files of a β-VAE, and is wrong about '{name}'"):
        load_vae(model / "vae")


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize(
    "settings",
    [
        {"generator_width": 200_000},
        {"generator_width": 10**18},
        {"resolution": 512},
        {"noise_units": 2_000_000_000},
        {"noise_units": 10**30},
        {"generator": "dcgan", "generator_width": 200_000},
    ],
)
def test_a_config_that_asks_for_more_weights_than_there_are_takes_no_memory(model: Path, settings: dict) -> None:
    set_in(model / "config.yaml", **settings)
    seal(model)
    with pytest.raises(ValueError, match=r"generator\.safetensors (belongs to another arch|can't belong to its conf)"):
        RNAGAN.from_pretrained(model, "cpu")


@pytest.mark.attack(kind=2)
@pytest.mark.parametrize(
    "settings", [{"hidden": "200000,200000"}, {"latent": 2_000_000_000}, {"hidden": "1" + "0" * 30}, {"latent": 10**30}]
)
def test_a_vae_that_asks_for_more_weights_than_there_are_takes_no_memory(model: Path, settings: dict) -> None:
    set_in(model / "vae/config.yaml", **settings)
    seal(model)
    with pytest.raises(ValueError, match=r"vae\.safetensors (belongs to another arch|can't belong to its conf)"):
        load_vae(model / "vae")


@pytest.mark.attack(kind=2)
def test_a_vae_of_very_many_layers_is_refused(model: Path) -> None:
    set_in(model / "vae/config.yaml", hidden=",".join(["1"] * 50_000))
    seal(model)
    with pytest.raises(ValueError, match="hidden lists 50,000 layers, and 64 are the most"):
        load_vae(model / "vae")


def renamed(path: Path) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file({("other" if each == name else each): own for each, own in tensors.items()}, path)


def shortened(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    save_file(tensors | {name: tensors[name][:-1].contiguous()}, path)


@pytest.mark.attack(kind=3)
@pytest.mark.parametrize("change", [renamed, shortened])
@pytest.mark.parametrize("name", ["vae", "latents", "imputer", "transform"])
def test_arrays_of_another_name_or_shape_are_refused_by_file(model: Path, name: str, change: Callable) -> None:
    change(model / f"vae/{name}.safetensors")
    seal(model)
    with pytest.raises(ValueError, match=rf"{name}\.safetensors (has no tensor|is|belongs)|vae holds files of several"):
        load_vae(model / "vae")


@pytest.mark.attack(kind=3)
@pytest.mark.parametrize("change", [renamed, shortened])
def test_a_condition_of_another_name_or_shape_is_refused_by_file(model: Path, change: Callable) -> None:
    change(model / "condition.safetensors")
    seal(model)
    with pytest.raises(ValueError, match=r"condition\.safetensors (has no tensor|isn't the condition)"):
        RNAGAN.from_pretrained(model, "cpu")


@pytest.mark.attack(kind=3)
def test_a_condition_of_units_that_the_vae_lacks_is_refused(model: Path) -> None:
    tensors = load_file(model / "condition.safetensors")
    save_file(tensors | {"units": tensors["units"] + 1_000}, model / "condition.safetensors")
    seal(model)
    with pytest.raises(ValueError, match=r"condition\.safetensors isn't the condition of this β-VAE"):
        RNAGAN.from_pretrained(model, "cpu")


@pytest.mark.attack(kind=1)
def test_a_run_does_not_start_from_a_model_with_a_link(model: Path, secret: Path) -> None:
    (model / "notes.csv").symlink_to(secret)
    with pytest.raises(ValueError, match=r"model holds 'notes\.csv', which is a link"):
        EarlierRun.open(model)
