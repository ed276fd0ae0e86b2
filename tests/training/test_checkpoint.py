import json
from pathlib import Path

import pytest
import torch
from torch import nn

from rnagan.io.files import read_json
from rnagan.tracking.run_folder import checkpoint_path, latest_checkpoint
from rnagan.training.checkpoint import best_checkpoint, keep, load_checkpoint, mark_best, moments_of, save_checkpoint


def network(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)


def adam(module: nn.Module, lr: float = 1e-2) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=lr, betas=(0.0, 0.99), fused=True)


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (module(x) ** 3).sum().backward()
    optimizer.step()


def test_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    module, optimizer = network(), None
    optimizer = adam(module)
    for seed in range(3):
        step(module, optimizer, seed)
    folder = checkpoint_path(tmp_path, 24)
    save_checkpoint(folder, {"net": module.state_dict()}, {"adam": moments_of(optimizer)}, {"images": 24})
    other = network(seed=5)
    stored = load_checkpoint(folder)
    stored.load_module("net", other)
    resumed = adam(other, lr=9.0)
    stored.load_optimizer("adam", resumed)
    assert stored.state["images"] == 24
    for seed in range(3, 6):
        step(module, optimizer, seed)
        step(other, resumed, seed)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_moments_lie_in_memory_as_their_parameters_do(tmp_path: Path) -> None:
    """Fused optimisers walk raw memory; safetensors stores rows."""
    module = network()
    optimizer = adam(module)
    step(module, optimizer, 0)
    save_checkpoint(tmp_path / "c", {}, {"adam": moments_of(optimizer)}, {})
    resumed = adam(network())
    load_checkpoint(tmp_path / "c").load_optimizer("adam", resumed)
    moments = resumed.state[resumed.param_groups[0]["params"][0]]
    assert moments["exp_avg_sq"].is_contiguous(memory_format=torch.channels_last)
    assert not moments["exp_avg_sq"].is_contiguous()
    assert torch.equal(moments["exp_avg_sq"], optimizer.state[next(module.parameters())]["exp_avg_sq"])


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(checkpoint_path(tmp_path, 8), {"net": network().state_dict()}, {}, {"images": {1, 2}})
    assert latest_checkpoint(tmp_path) is None
    assert not list((tmp_path / "checkpoints").iterdir())


def test_newest_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for count in (8, 96, 1_000_000_000, 24):
        save_checkpoint(checkpoint_path(tmp_path, count), {}, {}, {"images": count})
    (tmp_path / "checkpoints/.tmp-left-over").mkdir()
    assert latest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1_000_000_000)
    keep(tmp_path, 3, best=checkpoint_path(tmp_path, 8))
    assert len(names(tmp_path)) == 4
    keep(tmp_path, 2)
    assert names(tmp_path) == ["000000000096", "001000000000"]


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("[0-9]*"))


def test_the_best_survives_until_a_better_one_comes(tmp_path: Path) -> None:
    assert best_checkpoint(tmp_path) is None
    for count, value in ((8, 3.0), (16, 1.5), (24, 2.0), (32, 1.5), (40, 9.0)):
        path = checkpoint_path(tmp_path, count)
        save_checkpoint(path, {}, {}, {"images": count})
        mark_best(tmp_path, path, "frechet_distance", value)
        keep(tmp_path, 1, best_checkpoint(tmp_path))
    assert names(tmp_path) == ["000000000016", "000000000040"]
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 16)
    assert read_json(tmp_path / "best.json") == {
        "checkpoint": "000000000016",
        "metric": "frechet_distance",
        "value": 1.5,
    }
    mark_best(tmp_path, checkpoint_path(tmp_path, 40), "faithfulness", 99.0)  # values of two metrics are no rivals
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 40)
    keep(tmp_path, 1, best_checkpoint(tmp_path))
    assert names(tmp_path) == ["000000000040"]
    (tmp_path / "checkpoints/000000000040").rename(tmp_path / "elsewhere")
    assert best_checkpoint(tmp_path) is None
    mark_best(tmp_path, checkpoint_path(tmp_path, 48), "faithfulness", 100.0)  # nothing is left to be better
    assert read_json(tmp_path / "best.json")["value"] == 100.0


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", {"net": network().state_dict()}, {}, {})
    stored = load_checkpoint(tmp_path / "c")
    with pytest.raises(ValueError, match=r"net\.safetensors belongs to another architecture \(6 tensors differ, first"):
        stored.load_module("net", network(width=8))
    with pytest.raises(FileNotFoundError, match=r"critic\.safetensors does not exist; the folder is no complete"):
        stored.load_module("critic", network())
    (tmp_path / "c/net.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ValueError, match=r"net\.safetensors is not a safetensors file"):
        stored.load_module("net", network())
    (tmp_path / "c/state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json is not valid JSON"):
        load_checkpoint(tmp_path / "c")


def test_state_is_plain_json(tmp_path: Path) -> None:
    module = network()
    save_checkpoint(
        tmp_path / "c",
        {"net": module.state_dict()},
        {"adam": moments_of(adam(module))},
        {"images": 8, "mlflow_run": None},
    )
    state = json.loads((tmp_path / "c/state.json").read_text())
    assert (state["images"], state["mlflow_run"]) == (8, None)
    assert state["optimizers"]["adam"][0]["lr"] == 1e-2
