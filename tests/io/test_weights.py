import errno
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from rnagan.config.vae import VAEConfig
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.transform import ExpressionTransform
from rnagan.io import weights
from rnagan.io.weights import load_weights, read_arrays, read_tensors, save_weights, write_arrays, write_tensors
from rnagan.models.latent_space import LatentSpace
from rnagan.models.trained_vae import VAEModel, save_vae
from rnagan.models.vae import BetaVAE
from tests.disks import small_disk


def network(width=3, bias=True):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Linear(width, 1, bias=bias))


def test_round_trip_with_buffers_and_memory_format(tmp_path):
    stored, loaded = network().to(memory_format=torch.channels_last), network()
    stored[1].running_mean += 4
    save_weights(tmp_path / "w.safetensors", stored)
    load_weights(tmp_path / "w.safetensors", loaded)
    for name, tensor in stored.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (network(width=4), r"7 tensors differ, first '0\.bias'"),
        (network(bias=False), r"1 tensors differ, first '2\.bias'"),
        (nn.Sequential(*network(), nn.Linear(1, 1)), r"2 tensors differ, first '3\.bias'"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, other, why):
    save_weights(tmp_path / "w.safetensors", network())
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=rf"w\.safetensors belongs to another architecture \({why}\); use the config"):
        load_weights(tmp_path / "w.safetensors", other)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)  # nothing was half loaded


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize(
    "write", [lambda value, path: path.write_bytes(pickle.dumps(value)), lambda value, path: torch.save(value, path)]
)
def test_a_pickle_with_another_name_is_refused_and_not_run(tmp_path, write):
    path, sprung = tmp_path / "w.safetensors", tmp_path / "sprung"
    write(Trap(sprung), path)
    with pytest.raises(ValueError, match=r"w\.safetensors is not a safetensors file"):
        read_tensors(path)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


def test_truncated_and_missing_files_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.arange(100.0)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"w\.safetensors is not a safetensors file"):
        read_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"w\.safetensors is not a safetensors file"):
        read_tensors(path)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors does not exist; the folder is no complete"):
        read_tensors(tmp_path / "none.safetensors")


def test_tensors_keep_type_and_values(tmp_path):
    tensors = {"a": torch.randn(3, 4, dtype=torch.float64).T, "b": torch.tensor(7), "c": torch.randn(2).bfloat16()}
    write_tensors(tmp_path / "w.safetensors", tensors)
    back = read_tensors(tmp_path / "w.safetensors")
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)


def test_arrays_keep_type_and_values(tmp_path):
    arrays = {"a": np.random.default_rng(0).normal(size=(3, 4)).T, "b": np.array([True, False]), "c": np.float32([1])}
    write_arrays(tmp_path / "a.safetensors", arrays)
    back = read_arrays(tmp_path / "a.safetensors")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_a_full_disk_is_an_oserror_for_all_of_a_vae(tmp_path, monkeypatch):
    """The disk fills when the statistics of the latents are written, the last and smallest of the arrays."""

    def save_file(tensors, path):
        if "kl" in tensors:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(tensors, path)

    whole = weights.save_file
    monkeypatch.setattr(weights, "save_file", save_file)
    config = VAEConfig(hidden="4", latent=2)
    transform = ExpressionTransform.fit(np.float32([[1, 2], [3, 5]]), ["a", "b"], "tpm", "log1p")
    z = transform.apply(np.float32([[1, 2], [3, 5]]), ["a", "b"], "tpm")
    space = LatentSpace.fit(z, np.ones(2, np.float32), ["x", "y"], z, np.ones(2, np.float32))
    model = VAEModel(config, transform, GeneImputer.fit(z, z), BetaVAE(2, config), space, {})
    with pytest.raises(OSError, match="No space left"):
        save_vae(tmp_path / "vae", model)
    assert not list(tmp_path.iterdir())


def test_a_file_that_the_disk_does_not_take_is_an_oserror_with_its_number(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk, pytest.raises(OSError) as raised:
        write_tensors(disk / "w.safetensors", {"a": torch.zeros(1_000_000)})
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(disk / "w.safetensors")


def test_who_may_read_a_file_is_decided_as_for_any_other(tmp_path):
    (tmp_path / "text").write_text("")
    write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(3)})
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "text").stat().st_mode
