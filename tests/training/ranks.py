"""What a rank of a launch does where its machine or its disk isn't like the others' (test_ranks.py starts two):
`ranks.py CASE FOLDER` prints one line of JSON."""

import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as distributed
from accelerate import Accelerator

from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.index import open_dataset
from rnagan.data.reader import Replaced
from rnagan.evaluation.features import make_extractor
from rnagan.models.gan_generator import GANGenerator
from rnagan.models.generators import build_generator
from rnagan.runtime.distributed import processes
from rnagan.tracking.run_folder import checkpoint_path
from rnagan.training import checkpoint, validation, warm_start
from rnagan.training.corrupt_tiles import CorruptTiles
from rnagan.training.launch import end_together, start
from rnagan.training.run import TrainingRun

VAE = VAEConfig(hidden="16", latent=4, threads=1)


def store(folder: Path, images: int) -> Path:
    path = checkpoint_path(folder, images)
    state = {"kind": "vae", "config": VAE.to_dict(), "made_from": {"expression": "digest"}, "mlflow_run": None}
    checkpoint.save_checkpoint(path, {}, {}, state)
    return path


def outlived(accelerator: Accelerator, folder: Path) -> str:
    """The main process works for longer than PyTorch's processes would wait."""
    if accelerator.is_main_process:
        time.sleep(2.5)
    accelerator.wait_for_everyone()
    return "came"


def opened(accelerator: Accelerator, folder: Path) -> str:
    """Where a run goes on from."""
    run = TrainingRun(folder, VAE, accelerator, {"expression": "digest"})
    assert run.checkpoint is not None
    return run.checkpoint.path.name


def unseen(accelerator: Accelerator, folder: Path) -> str:
    """This disk hasn't the newest checkpoint yet."""
    if not accelerator.is_main_process:

        def absent(path: Path, *_: Any, **__: Any) -> Any:
            raise FileNotFoundError(path)

        checkpoint.read_json = absent
    return opened(accelerator, folder)


def earlier(accelerator: Accelerator, folder: Path) -> str:
    """Of the run that another one starts from, this disk shows an older checkpoint."""
    if not accelerator.is_main_process:
        newest_whole = warm_start.newest_whole

        def older(run: Path) -> Any:
            newest, damaged = newest_whole(run)
            return sorted(newest.parent.glob("[0-9]*"))[0], damaged

        warm_start.newest_whole = older
    return warm_start.EarlierRun.open(folder).checkpoint.path.name


def damaged(accelerator: Accelerator, folder: Path) -> str:
    """Each process meets damaged tiles of its own, and one that the other meets too."""
    corrupt, rank = CorruptTiles(folder, accelerator.process_index), accelerator.process_index
    for slide in ("common", f"of {rank}", f"of {rank}"):
        corrupt.add([Replaced(0, slide, 3, "cut")])
    first = len(corrupt.of_all())
    corrupt.add([Replaced(0, "later", 3 + rank, "cut")])
    return f"{first}, {len(corrupt.of_all())}"


def validation_in(folder: Path) -> tuple[validation.TileValidation, GANGenerator]:
    """A validation on the folder's rows, and a generator."""
    config, rows = load_config(GANConfig, folder / "config.yaml"), pd.read_csv(folder / "rows.csv")
    shards, conditions = open_dataset((folder / "shards").read_text()), torch.linspace(-2, 2, 3 * len(rows))
    torch.manual_seed(0)
    generator = GANGenerator(config, build_generator(config, 3).double().eval(), 3)
    extractor = make_extractor("handmade")
    return validation.TileValidation(config, shards, rows, conditions.view(-1, 3), folder, "cpu", extractor), generator


def validated(accelerator: Accelerator, folder: Path) -> dict[str, Any]:
    """Rows that this process generated, and the metrics. One of them measures for longer than PyTorch's would wait."""
    own, generator = validation_in(folder)
    generated, usual = [], own._generated

    def noted(network: GANGenerator, row: int) -> Any:
        generated.append(row)
        time.sleep(0.0 if accelerator.is_main_process else 0.25)
        return usual(network, row)

    own._generated = noted
    described = own.describe(generator)
    return {"rows": generated, "metrics": own.compare(described) if accelerator.is_main_process else None}


def unmeasured(accelerator: Accelerator, folder: Path) -> None:
    """This process can't measure."""
    if not accelerator.is_main_process:

        def fails(*_: Any) -> None:
            raise ValueError("no memory")

        validation.measure = fails
    own, generator = validation_in(folder)
    own.describe(generator)


CASES = {each.__name__: each for each in (outlived, opened, unseen, earlier, damaged, validated, unmeasured)}

if __name__ == "__main__":
    case, folder = sys.argv[1], Path(sys.argv[2])
    soon = datetime.timedelta(seconds=1)
    distributed.distributed_c10d._get_default_timeout = lambda backend: soon  # as NCCL's 10 minutes, in small
    short = {"wait_minutes": 1 / 60} if case == "cut" else {}
    accelerator = start("float32", 0, 1, **short)
    found: dict[str, Any] = {"rank": processes().rank}
    try:
        found["said"] = (outlived if case == "cut" else CASES[case])(accelerator, folder)
    except (ValueError, OSError) as error:
        found["error"] = str(error)
    except RuntimeError as error:  # of gloo
        found["gloo"] = str(error)
    print(json.dumps(found), flush=True)
    end_together(accelerator, wait=False)
