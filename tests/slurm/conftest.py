"""The two virtual nodes of tests/slurm/cluster.sh, which `make test-slurm` starts."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.jobs import NODES, idle_nodes, is_over, run, wait_until


@pytest.fixture(scope="session")
def cluster() -> None:
    settings = Path(os.environ.get("SLURM_CONF", os.devnull))
    if not settings.exists() or "NodeName=virtual[1-2] " not in settings.read_text():
        pytest.skip("SLURM_CONF names no SLURM of two virtual nodes; tests/slurm/cluster.sh starts one.")


@pytest.fixture
def nodes(cluster: None) -> Iterator[None]:
    """Both virtual nodes, idle; no job is left on them afterwards."""
    wait_until(lambda: idle_nodes() == NODES, "the two nodes weren't idle")
    yield
    run("scancel", "--me")
    wait_until(is_over, "jobs didn't end")
