"""Backbones: what is built, kept on disk and taken over."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from rnagan.io.weights import save_weights, write_tensors
from rnagan.models import resnet


def test_a_backbone_is_torchvisions_without_its_last_layer_and_follows_its_seed() -> None:
    network, width = resnet.build_backbone("resnet18", "batch", 1)
    assert width == 512 and network(torch.zeros(2, 3, 32, 32)).shape == (2, 512)
    whole = torchvision.models.resnet18().state_dict()
    own = network.state_dict()
    assert own.keys() == {name for name in whole if not name.startswith("fc.")}
    before = torch.random.get_rng_state()
    again, _ = resnet.build_backbone("resnet18", "batch", 1)
    other, _ = resnet.build_backbone("resnet18", "batch", 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again.conv1.weight, network.conv1.weight)
    assert not torch.equal(other.conv1.weight, network.conv1.weight)


def test_group_norm_keeps_no_statistics_of_a_batch() -> None:
    network, _ = resnet.build_backbone("resnet18", "group", 0)
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    x = torch.randn(4, 3, 32, 32)
    assert torch.allclose(network(x)[:1], network(x[:1]), atol=1e-5)


def test_input_is_normalised_as_torchvision_does_it() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    preset = torchvision.transforms.Normalize(resnet.MEAN, resnet.SD)
    expected = torch.stack([preset(torchvision.transforms.functional.to_tensor(tile)) for tile in tiles])
    torch.testing.assert_close(resnet.to_input(tiles), expected)


def test_a_folder_that_was_changed_or_is_none_is_refused(tmp_path: Path) -> None:
    network, _ = resnet.build_backbone("resnet18", "batch", 0)
    with pytest.raises(FileNotFoundError, match="holds no pretrained backbone"):
        resnet.open_backbone(tmp_path)
    resnet.save_backbone(tmp_path, network, {"backbone": "resnet18", "norm": "batch"})
    other, _ = resnet.build_backbone("resnet18", "batch", 1)
    resnet.open_backbone(tmp_path).load_into(other)
    assert torch.equal(other.layer4[1].conv2.weight, network.layer4[1].conv2.weight)
    save_weights(tmp_path / "backbone.safetensors", resnet.build_backbone("resnet18", "batch", 2)[0])
    with pytest.raises(ValueError, match="missing or was changed after training"):
        resnet.open_backbone(tmp_path)


def test_imagenets_weights_come_from_a_file_without_their_last_layer(tmp_path: Path) -> None:
    whole = torchvision.models.resnet18().state_dict()
    write_tensors(tmp_path / "whole.safetensors", whole)
    bare = {name: tensor for name, tensor in whole.items() if "num_batches" not in name}
    write_tensors(tmp_path / "bare.safetensors", bare)  # as other libraries write it
    for name in ("whole", "bare"):
        network, _ = resnet.build_backbone("resnet18", "batch", 5)
        resnet.load_imagenet(tmp_path / f"{name}.safetensors", network)
        assert torch.equal(network.layer3[0].conv1.weight, whole["layer3.0.conv1.weight"])
    wrong, _ = resnet.build_backbone("resnet50", "batch", 0)
    with pytest.raises(
        ValueError, match=r"whole.safetensors holds weights of another network .* choose its --backbone"
    ):
        resnet.load_imagenet(tmp_path / "whole.safetensors", wrong)
