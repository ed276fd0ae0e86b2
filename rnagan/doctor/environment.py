"""What rnagan needs around it: packages in their versions, MLflow's store, shared memory, open files."""

import os
import platform
import resource
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from rnagan.config.gan import GANConfig
from rnagan.doctor.findings import Section

SHOWN = ("torch", "torchvision", "accelerate", "webdataset", "simplejpeg", "numpy")  # versions worth seeing
SHARED_MEMORY = Path("/dev/shm")
SMALL_SHARED_BYTES = 1 << 28  # less than this is a container's default (64 MB); NCCL alone may want more
MLRUNS = Path("mlruns")  # where MLflow kept runs before 3.7, in the folder that it was started in
NO_FILE_STORES = Version("3.13")  # of MLflow, from which it refuses them unless MLFLOW_ALLOW_FILE_STORE is true
OTHER_FILES = 512  # that a process has open besides shards: libraries, sockets, MLflow


def check_versions(section: Section, package: str = "rnagan") -> None:
    """Python and every requirement of an installed package against what is there."""
    section.figures["python"] = platform.python_version()
    try:
        about = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        section.warn(
            f"{package} isn't installed, so what it requires isn't known.",
            "pip install --editable . (or: make install)",
        )
        return
    asked = about["Requires-Python"] or ""
    if not SpecifierSet(asked).contains(platform.python_version(), prereleases=True):
        section.problem(f"Python {platform.python_version()}: {package} needs {asked}.", "use a newer Python")
    requirements = [Requirement(text) for text in metadata.requires(package) or []]
    needed = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    check_requirements(section, needed)


def check_requirements(section: Section, requirements: list[Requirement]) -> None:
    """Add a problem for each requirement that isn't met, or one line for all that are."""
    installed: dict[str, str | None] = {one.name: _version(one.name) for one in requirements}
    section.figures["installed"] = installed
    section.figures["missing"] = [name for name, version in installed.items() if version is None]
    unmet = [one for one in requirements if not _is_met(one, installed[one.name])]
    for one in unmet:
        version = installed[one.name]
        here = "is missing" if version is None else f"{version} is installed"
        wanted = f"{one.name}{one.specifier}"
        section.problem(f"{one.name} {here}; {wanted} is needed.", f"pip install --upgrade '{wanted}'")
    versions = [
        f"Python {platform.python_version()}",
        *(f"{name} {installed[name]}" for name in SHOWN if name in installed),
    ]
    if not unmet:
        section.ok(f"{', '.join(versions)}; all {len(requirements)} requirements are met.")


def check_mlruns(section: Section, folder: Path = MLRUNS) -> None:
    """Say what the installed MLflow does with the store of an older one, where there is such a folder here, or where
    MLFLOW_TRACKING_URI names one."""
    version, uri = _version("mlflow"), os.environ.get("MLFLOW_TRACKING_URI", "")
    refused = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1")
    if version is None or Version(version) < NO_FILE_STORES or not refused:
        return
    move = (
        "mlflow migrate-filestore --source {0} --target sqlite:///mlruns.db, then mlflow ui --backend-store-uri "
        "sqlite:///mlruns.db. Or read it as it is: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {0}"
    )
    if uri.startswith("file:") or (uri and ":" not in uri and uri != "databricks"):
        section.problem(
            f"MLFLOW_TRACKING_URI names a folder ({uri}), and MLflow {version} refuses to keep runs in one: every run "
            "would warn that MLflow can't be reached.",
            f"unset MLFLOW_TRACKING_URI, or let it name a server or sqlite:///PATH.db. To move what is there: "
            f"{move.format(uri.removeprefix('file://').removeprefix('file:'))}",
        )
    experiments = [path for path in folder.glob("*/meta.yaml") if path.parent.name.isdigit()]  # as MLflow looks
    if experiments:
        section.figures["mlruns_experiments"] = len(experiments)
        section.warn(
            f"./{folder.name} is the store of an older MLflow ({len(experiments):,} experiments). rnagan neither reads "
            f"nor changes it: its runs are in RUNS/mlflow.db. MLflow {version}, started here, takes it for its default "
            "store instead of mlflow.db, and then refuses it.",
            move.format(folder.name),
        )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _is_met(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def check_shared_memory(section: Section, config: GANConfig, tile_px: int, folder: Path = SHARED_MEMORY) -> None:
    """Worker processes hand their batches over in it."""
    try:
        found = os.statvfs(folder)
    except OSError:
        section.warn(
            f"There is no {folder}, so worker processes can't hand over batches.",
            "keep --loader-workers 0, the default",
        )
        return
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    of_worker = worker_bytes(config, tile_px)
    needed = config.loader_workers * of_worker
    section.figures |= {
        "shared_memory_bytes": size,
        "shared_memory_free_bytes": free,
        "shared_memory_of_worker_bytes": of_worker,
        "shared_memory_needed_bytes": needed,
    }
    there = f"{folder}: {free / 1e9:,.2f} of {size / 1e9:,.2f} GB free"
    formula = (
        f"a worker process holds (prefetch_batches + 1) × batch_size × 3 × tile_px² bytes of it, here "
        f"({config.prefetch_batches} + 1) × {config.batch_size} × 3 × {tile_px}² = {of_worker / 1e6:,.0f} MB"
    )
    larger = "enlarge it (docker run --shm-size=8g; mount -o remount,size=8g /dev/shm)"
    if needed > free:
        section.problem(
            f"{there}, and {config.loader_workers} worker processes need {needed / 1e9:,.2f} GB: {formula}.",
            f"{larger}, or use --loader-workers 0: threads need none",
        )
    elif size < SMALL_SHARED_BYTES:
        section.warn(f"{there}: little; {formula}, and processes on several GPUs talk through it too.", larger)
    elif config.loader_workers:
        section.ok(f"{there}; {config.loader_workers} worker processes need {needed / 1e9:,.2f} GB: {formula}.")
    else:
        section.ok(f"{there}, enough for {free // of_worker:,} worker processes (now 0: threads need none); {formula}.")


def worker_bytes(config: GANConfig, tile_px: int) -> int:
    """Shared memory that the batches of one worker process take, on one training process."""
    return (config.prefetch_batches + 1) * config.batch_size * 3 * tile_px**2


def check_open_files(section: Section, config: GANConfig) -> None:
    """The loader keeps the tars of its window open; it raises the soft limit itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    section.figures |= {"open_files_soft": soft, "open_files_hard": None if unlimited else hard}
    wanted = config.window_slides + OTHER_FILES
    limit = "no limit" if unlimited else f"up to {hard:,}"
    if unlimited or hard >= wanted:
        section.ok(f"Open files: {limit}; the loader keeps up to window_slides = {config.window_slides:,} shards open.")
    else:
        section.warn(
            f"Open files: {limit}; the loader would keep window_slides = {config.window_slides:,} shards open, and now "
            "opens and closes them again and again.",
            f"ulimit -n {wanted} (docker run --ulimit nofile={wanted}), or a smaller --window-slides",
        )
