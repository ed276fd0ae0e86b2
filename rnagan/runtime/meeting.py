"""How the processes of a launch find one another: who never came, who shares a GPU or a core, and their process group.

PyTorch alone would wait in silence for a process that never comes, and take a GPU twice until NCCL fails.
"""

import dataclasses
import datetime
import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Sequence

import torch
import torch.distributed as distributed

from rnagan.runtime.distributed import note_cores

MEET_SECONDS = 50  # until every process must have come
LIMIT = "RNAGAN_MEET_SECONDS"  # the variable that says otherwise
_RANK, _WORLD = (  # what launchers call them, as Accelerate looks for them
    [plain, *(f"{launcher}_{of_mpi}" for launcher in ("PMI", "OMPI_COMM_WORLD", "MV2_COMM_WORLD"))]
    for plain, of_mpi in (("RANK", "RANK"), ("WORLD_SIZE", "SIZE"))
)
POLL_SECONDS = 0.1
_GIVEN_UP = "given up"
_met = 0  # meetings of this process so far: one that was left leaves its names behind


@dataclasses.dataclass(frozen=True)
class Presence:
    """What a process says of itself to the others: its machine, the cores it may use, and which GPU it computes on (its
    own identity, "" for none)."""

    host: str
    cores: list[int]
    gpu: str = ""


def join(gpus: int, wait_minutes: float) -> None:
    """Join the process group of this launch, where there is one of several processes and it isn't joined yet.

    `gpus`: how many this process sees; 0: it computes on the CPU. `wait_minutes`: how long processes wait for one
    another from then on. Raises `ValueError` where a process doesn't come, or two would share a GPU.
    """
    rank, count = (_number(names, default) for names, default in ((_RANK, 0), (_WORLD, 1)))
    local_rank = os.environ.get("LOCAL_RANK")
    index = 0
    if gpus and local_rank is not None:
        index = own_gpu(gpus, int(local_rank), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        os.environ["LOCAL_RANK"] = str(index)  # Accelerate takes it for the GPU of DDP and of barriers
    if count == 1 or (gpus and local_rank is None) or distributed.is_initialized():
        return
    gpu = str(torch.cuda.get_device_properties(index).uuid) if gpus else ""
    global _met
    _met += 1
    own = Presence(socket.gethostname(), sorted(os.sched_getaffinity(0)), gpu)
    store, everyone = meet(own, rank, count, _meet_seconds(), _met)
    check_gpus(everyone)
    note_cores(each.cores for each in everyone if each.host == own.host)
    if gpus:
        torch.cuda.set_device(index)
    distributed.init_process_group(
        "nccl" if gpus else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=datetime.timedelta(minutes=wait_minutes),
    )


def own_gpu(gpus: int, local_rank: int, local_count: int) -> int:
    """Which of the GPUs that it sees a process takes: the one of its rank on this machine, or the only one.

    Raises `ValueError` where more processes than GPUs were started.
    """
    if gpus == 1:  # perhaps its own one, as of a scheduler that binds GPUs to tasks; `check_gpus` finds out
        return 0
    started = max(local_count, local_rank + 1)
    if started > gpus:
        raise ValueError(
            f"{started} processes were started on {socket.gethostname()}, where each sees {gpus} GPUs; start as many "
            "processes as GPUs, or let each see one of its own (srun --gpus-per-task=1)."
        )
    return local_rank


def check_gpus(everyone: Sequence[Presence]) -> None:
    """Refuse processes that would share a GPU."""
    users = defaultdict(list)
    for rank, each in enumerate(everyone):
        if each.gpu:
            users[each.host, each.gpu].append(str(rank))
    for (host, _), ranks in users.items():
        if len(ranks) > 1:
            raise ValueError(
                f"Processes {', '.join(ranks)} have the same GPU of {host}; start as many processes as GPUs, or let "
                "each see one of its own (srun --gpus-per-task=1)."
            )


def meet(
    own: Presence, rank: int, count: int, seconds: float, number: int = 1
) -> tuple[distributed.Store, list[Presence]]:
    """The store through which all processes of a launch talk, and what each says of itself, by rank.

    Process 0 listens at MASTER_ADDR and MASTER_PORT, unless the launcher does. Raises `ValueError` where one hasn't
    come after so many seconds. `number`: of the meetings of one launch, each with a store of its own.
    """
    address, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), int(os.environ.get("MASTER_PORT", "29500"))
    more = f"where processes start more slowly, set {LIMIT} (now {seconds:g})"
    limit = datetime.timedelta(seconds=seconds)
    by_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    hosts = rank == 0 and not by_launcher
    if not hosts and not _listens(address, port, seconds):
        raise ValueError(
            f"Process {rank} of {count} found no process 0 at {address}:{port} within {seconds:g} s; check MASTER_ADDR "
            f"and MASTER_PORT, and that process 0 was started; {more}."
        )
    try:
        listening = distributed.TCPStore(
            address, port, is_master=hosts, timeout=limit, wait_for_workers=False, multi_tenant=True
        )
    except distributed.DistError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"Process {rank} of {count} can't use {address}:{port} ({reason}); set MASTER_ADDR to a name of process "
            "0's machine and MASTER_PORT to a free port of it."
        ) from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = distributed.PrefixStore(f"rnagan/{attempt}/{number}", listening)
    names = [f"here/{each}" for each in range(count)]
    store.set(names[rank], json.dumps(dataclasses.asdict(own)))
    if missing := _missing(store, names, seconds):
        if hosts:
            time.sleep(4 * POLL_SECONDS)  # the others look once more before their connection breaks
        raise ValueError(
            f"{len(missing)} of {count} processes didn't come to {address}:{port} within {seconds:g} s: rank "
            f"{', '.join(missing)}; start {count} processes that reach it, or set WORLD_SIZE to as many as there are; "
            f"{more}."
        )
    return store, [Presence(**json.loads(store.get(name))) for name in names]


def _listens(address: str, port: int, seconds: float) -> bool:
    """Whether something listens there within so many seconds. PyTorch would say each trial at length."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection((address, port), timeout=max(0.1, end - time.monotonic())).close()
            return True
        except OSError:  # nobody yet, or no such name yet
            time.sleep(0.1)
    return False


def _missing(store: distributed.Store, names: Sequence[str], seconds: float) -> list[str]:
    """Ranks that haven't come within so many seconds, or when another process gave up. PyTorch's own wait would say at
    length that a connection broke."""
    end = time.monotonic() + seconds
    while not store.check(list(names)):
        if time.monotonic() > end or store.check([_GIVEN_UP]):
            store.set(_GIVEN_UP, "")
            return [name.rpartition("/")[2] for name in names if not store.check([name])]
        time.sleep(POLL_SECONDS)
    return []


def _number(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)


def _meet_seconds() -> float:
    given = os.environ.get(LIMIT, "")
    try:
        seconds = float(given or MEET_SECONDS)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e6:
        raise ValueError(f"{LIMIT} must be a number of seconds, not {given!r}.")
    return seconds
