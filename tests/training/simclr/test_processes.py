"""SimCLR on two real processes: the negatives are those of the whole batch, and a run makes what one process makes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rnagan.config.simclr import SimCLRConfig
from rnagan.training.simclr.step import contrastive_loss
from rnagan.training.simclr.train import pretrain_simclr
from rnagan.training.tile_inputs import TileInputs
from tests import programs

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.distributed
ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
LOSS = """
import sys
import numpy as np, torch
import torch.distributed as dist
from rnagan.training.simclr.step import contrastive_loss
dist.init_process_group("gloo")
rank, n = dist.get_rank(), 3
whole = torch.from_numpy(np.load(sys.argv[1]))
for name, processes in (("gathered", 2), ("alone", 1)):
    z = torch.cat([whole[rank * n : (rank + 1) * n], whole[6 + rank * n : 6 + (rank + 1) * n]]).requires_grad_()
    loss = contrastive_loss(z, 0.5, processes).loss
    loss.backward()
    np.savez(f"{sys.argv[2]}/{name}_{rank}.npz", loss=loss.item(), gradient=z.grad.numpy())
dist.destroy_process_group()
"""


def test_loss_and_gradient_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(12, 5))
    np.save(tmp_path / "z.npy", z)
    (tmp_path / "loss.py").write_text(LOSS)
    programs.run(tmp_path / "loss.py", tmp_path / "z.npy", tmp_path, env=ENVIRONMENT, processes=2).check()
    whole = torch.from_numpy(z).requires_grad_()
    loss = contrastive_loss(whole, 0.5, 1).loss
    loss.backward()
    found = {name: [np.load(tmp_path / f"{name}_{rank}.npz") for rank in range(2)] for name in ("gathered", "alone")}

    def mean(name: str) -> float:
        return float(np.mean([part["loss"] for part in found[name]]))

    def gradient(name: str) -> np.ndarray:
        """Of the mean over processes, which DDP takes, in the rows of the whole batch."""
        first, second = zip(*(np.split(part["gradient"] / 2, 2) for part in found[name]), strict=True)
        return np.concatenate([*first, *second])

    assert mean("gathered") == pytest.approx(loss.item(), abs=1e-7)
    np.testing.assert_allclose(gradient("gathered"), whole.grad.numpy(), atol=1e-7)
    assert abs(mean("alone") - loss.item()) > 0.1  # the silent mistake
    assert np.abs(gradient("alone") - whole.grad.numpy()).max() > 1e-2


WITH_NEGATIVES_OF_THEIR_OWN = """
import runpy, sys
from rnagan.training.simclr import trainer
right = trainer.contrastive_loss
trainer.contrastive_loss = lambda z, temperature, processes: right(z, temperature, 1)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("no_mlflow")
def test_two_processes_make_the_backbone_that_one_makes(inputs: TileInputs, tmp_path: Path) -> None:
    config = SimCLRConfig(
        backbone="resnet18", norm="group", batch_size=16, epochs=1, precision="float64", threads=1, lr=0.01
    )
    assert pretrain_simclr(config, inputs.shards, tmp_path / "one")
    (tmp_path / "wrong.py").write_text(WITH_NEGATIVES_OF_THEIR_OWN)
    script = ROOT / "tools/pretrain_simclr.py"
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_dict().items() if value is not False]
    for out, words in (("two", [script]), ("wrong", [tmp_path / "wrong.py", script])):
        given = [f"--shards={inputs.shards}", f"--out={tmp_path / out}", *settings]
        run = programs.run(*words, *given, env=ENVIRONMENT, processes=2).check()
        assert "(2 × 8)" in run.stdout
    one, two, wrong = (load_file(tmp_path / name / "backbone.safetensors") for name in ("one", "two", "wrong"))
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-9
    assert max((one[name] - wrong[name]).abs().max().item() for name in one) > 1e-5
