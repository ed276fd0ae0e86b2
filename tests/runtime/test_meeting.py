"""How the processes of a launch find one another: who never came, and who would share a GPU or a core."""

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
from accelerate.state import PartialState

from rnagan.runtime import meeting
from rnagan.runtime.distributed import note_cores, own_cores
from rnagan.runtime.meeting import Presence, check_gpus, meet, own_gpu
from rnagan.training import launch
from tests import programs

FID = ("rnagan", "compute-fid", "--model=none", "--shards=none", "--cohort=none", "--out=none")


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Where processes meet, as their environment says."""
    port = free_port()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    return f"127.0.0.1:{port}"


def met(ranks: list[int], count: int, seconds: float) -> dict[int, Any]:
    """What `meet` returned or raised, by rank, in a thread for each."""
    found: dict[int, Any] = {}

    def one(rank: int) -> None:
        try:
            found[rank] = meet(Presence(f"node{rank // 2}", [rank], f"GPU-{rank}"), rank, count, seconds)
        except ValueError as error:
            found[rank] = str(error)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.usefixtures("address")
def test_each_process_learns_of_all() -> None:
    found = met([0, 2, 1], 3, 10)
    for _, everyone in found.values():
        assert [each.gpu for each in everyone] == ["GPU-0", "GPU-1", "GPU-2"]
        assert [each.host for each in everyone] == ["node0", "node0", "node1"]


@pytest.mark.parametrize(("ranks", "missing"), [([0], "rank 1, 2"), ([0, 2], "rank 1")])
def test_ranks_that_never_come_are_named(address: str, ranks: list[int], missing: str) -> None:
    found = met(ranks, 3, 0.5)
    sentence = f"{3 - len(ranks)} of 3 processes didn't come to {address} within 0.5 s: {missing}; start 3 processes"
    assert len(found) == len(ranks)
    assert all(said.startswith(sentence) and "set RNAGAN_MEET_SECONDS (now 0.5)" in said for said in found.values())


def test_a_process_without_a_first_one_says_where_it_looked(address: str) -> None:
    said = met([1], 2, 0.3)[1]
    assert said.startswith(f"Process 1 of 2 found no process 0 at {address} within 0.3 s; check MASTER_ADDR")
    assert said.endswith("where processes start more slowly, set RNAGAN_MEET_SECONDS (now 0.3).")


@pytest.mark.usefixtures("address")
def test_an_address_that_is_taken_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(ValueError, match=r"Process 0 of 2 can't use 127\.0\.0\.1:\d+ \(.*; set MASTER_ADDR to"):
            meet(Presence("here", [0]), 0, 2, 1)


@pytest.mark.parametrize("world", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}])
def test_a_command_that_waits_in_vain_ends_with_one_sentence(world: dict[str, str], tmp_path: Path) -> None:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "RNAGAN_MEET_SECONDS": "0.5"}
    ended = programs.run(*FID, env=world | place, cwd=tmp_path, timeout=60)
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "RNAGAN_MEET_SECONDS" in errors[0] and place["MASTER_PORT"] in errors[0]
    assert ("rank 1" if len(world) == 1 else "no process 0") in errors[0]
    assert "Traceback" not in ended.stderr and "frame #" not in ended.stderr


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RNAGAN_MEET_SECONDS", given)
    with pytest.raises(ValueError, match=f"RNAGAN_MEET_SECONDS must be a number of seconds, not '{given}'"):
        launch.start("float32", 0)


@pytest.mark.parametrize(
    ("gpus", "local_rank", "local_count", "index"),
    [(8, 3, 8, 3), (4, 3, 4, 3), (4, 0, 1, 0), (1, 0, 1, 0), (1, 3, 4, 0), (1, 3, 1, 0)],
)
def test_a_process_takes_the_gpu_of_its_rank_or_the_only_one(
    gpus: int, local_rank: int, local_count: int, index: int
) -> None:
    assert own_gpu(gpus, local_rank, local_count) == index


@pytest.mark.parametrize(("gpus", "local_rank", "local_count"), [(4, 0, 8), (4, 4, 1), (2, 1, 3)])
def test_more_processes_than_gpus_are_refused(gpus: int, local_rank: int, local_count: int) -> None:
    with pytest.raises(ValueError, match=rf"processes were started on .*, where each sees {gpus} GPUs; start as many"):
        own_gpu(gpus, local_rank, local_count)


def test_processes_that_would_share_a_gpu_are_refused() -> None:
    apart = [Presence("a", [0], "GPU-1"), Presence("a", [0], "GPU-2"), Presence("b", [0], "GPU-1"), Presence("b", [0])]
    check_gpus([*apart, Presence("b", [0])])  # two without a GPU share none
    with pytest.raises(ValueError, match="Processes 1, 4 have the same GPU of a; start as many processes as GPUs, or"):
        check_gpus([*apart, Presence("a", [1], "GPU-2")])


@pytest.mark.parametrize(("gpus", "local_rank", "taken"), [(1, "3", "0"), (4, "3", "3")])
def test_start_gives_accelerate_the_gpu_that_the_process_sees(
    monkeypatch: pytest.MonkeyPatch, gpus: int, local_rank: str, taken: str
) -> None:
    """Accelerate computes on GPU LOCAL_RANK mod count, and hands LOCAL_RANK itself to DDP and to barriers."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    seen: list[str] = []

    class Reached(Exception):  # noqa: N818
        """Accelerate was about to start."""

    def accelerator(**_: object) -> None:
        seen.append(os.environ["LOCAL_RANK"])
        raise Reached

    monkeypatch.setattr(launch, "Accelerator", accelerator)
    with pytest.raises(Reached):
        launch.start("float32", 0)
    assert seen == [taken]


def test_start_refuses_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(ValueError, match="8 processes were started on .*, where each sees 4 GPUs; start as many"):
        launch.start("float32", 0)


@pytest.mark.parametrize(
    ("own", "others", "cores"),
    [
        (range(4), [range(4, 8)], 4),  # each task bound to its own
        (range(8), [range(8)], 4),  # all of a job's for all of its tasks
        (range(6), [range(4, 8)], 5),  # two of them shared
        (range(1), [range(1)] * 7, 1),
    ],
)
def test_cores_are_shared_by_those_that_may_use_them(
    monkeypatch: pytest.MonkeyPatch, own: range, others: list[range], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(own))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(1 + len(others)))
    try:
        note_cores([own, *others])
        assert own_cores() == cores
    finally:
        note_cores([])


def test_a_group_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    meeting.join(0, 1)  # waits for nobody
    assert PartialState().num_processes == 1
