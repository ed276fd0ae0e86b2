"""A checkpoint that a full disk or a power cut damaged costs what came after the one before it, not the run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rnagan.tracking.run_folder import checkpoint_path, latest_checkpoint
from rnagan.training.checkpoint import damage, moments_of, newest_whole, save_checkpoint, set_aside_damaged


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES: list[tuple[str, Callable[[Path], None]]] = [
    ("state.json", lambda path: path.write_text("")),
    ("state.json", lambda path: path.write_text("[1, 2]")),
    ("state.json", zeros),
    ("state.json", Path.unlink),
    ("net.safetensors", cut),
    ("net.safetensors", zeros),
    ("net.safetensors", Path.unlink),
    ("adam.safetensors", Path.unlink),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for count in (8, 16, 24):
        folder = checkpoint_path(tmp_path / "run", count)
        save_checkpoint(folder, {"net": net.state_dict()}, {"adam": moments_of(optimizer)}, {"images": count})
    return tmp_path / "run"


@pytest.mark.parametrize("case", range(len(DAMAGES)))
def test_the_whole_one_before_is_gone_on_from(run: Path, case: int) -> None:
    name, harm = DAMAGES[case]
    newest = checkpoint_path(run, 24)
    assert damage(newest) is None and set_aside_damaged(run) == newest
    harm(newest / name)
    assert newest_whole(run) == (checkpoint_path(run, 16), {newest: damage(newest)})
    with pytest.warns(UserWarning, match=rf"000000000024 is damaged \({name} is missing.*goes on from .*000000000016"):
        assert set_aside_damaged(run) == checkpoint_path(run, 16)
    assert latest_checkpoint(run) == checkpoint_path(run, 16) and not newest.exists()
    assert (run / "checkpoints/damaged-000000000024").is_dir()
    shutil.copytree(checkpoint_path(run, 16), newest)  # the run comes here again, and is damaged once more
    harm(newest / name)
    with pytest.warns(UserWarning, match="is damaged"):
        assert set_aside_damaged(run) == checkpoint_path(run, 16)


def test_several_damaged_ones_and_none_whole(run: Path) -> None:
    for count in (16, 24):
        (checkpoint_path(run, count) / "state.json").write_text("")
    with pytest.warns(UserWarning, match="is damaged") as said:
        assert set_aside_damaged(run) == checkpoint_path(run, 8)
    assert len(said) == 2
    (checkpoint_path(run, 8) / "state.json").write_text("")
    with pytest.raises(
        ValueError, match=r"No checkpoint .*run is whole \(in 000000000008 state\.json .* to begin anew"
    ):
        set_aside_damaged(run)
    assert checkpoint_path(run, 8).is_dir()  # nothing is deleted unasked
    shutil.rmtree(run / "checkpoints")  # as the sentence says
    assert set_aside_damaged(run) is None
