"""A rank of a launch on a machine whose view of the disk lags behind (test_ranks.py starts two): all ranks but the main
one may hash nothing, read no profiles and no β-VAE, and see no finished run. `main_reads.py SCRIPT OPTIONS` starts the
script twice."""

import os
import runpy
import sys
from pathlib import Path
from typing import Never

from rnagan.training import joined_profiles, tile_inputs, train_tiles

SCRIPT, FIRST = sys.argv[1], os.environ["RANK"] == "0"


def refused(*_: object) -> Never:
    raise AssertionError("another process than the main one read a file of all")


def unseen(folder: Path) -> Never:
    raise FileNotFoundError(folder)


def run() -> None:
    try:
        runpy.run_path(SCRIPT, run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


if __name__ == "__main__":
    sys.argv.pop(0)
    if not FIRST:
        tile_inputs.sha256_of_file = joined_profiles.load_encoder = joined_profiles.read_embedding = refused
    run()
    if not FIRST:
        train_tiles.model_folder = unseen
    run()
