import resource
from pathlib import Path

import pytest

from rnagan.config.gan import GANConfig
from rnagan.doctor.environment import check_open_files, check_shared_memory, worker_bytes
from rnagan.doctor.findings import Section, Verdict

SMALL = GANConfig(batch_size=8, prefetch_batches=2, resolution=32)


def shared(config: GANConfig, tile_px: int, folder: Path) -> Section:
    section = Section("Memory and files")
    check_shared_memory(section, config, tile_px, folder)
    return section


def test_a_worker_holds_its_prefetched_batches_and_the_one_in_use() -> None:
    assert worker_bytes(SMALL, 10) == 3 * 8 * 300


def test_shared_memory(tmp_path: Path) -> None:
    here = shared(SMALL, 32, tmp_path)  # a large file system stands for it
    assert here.lines[0].verdict == Verdict.OK and "(2 + 1) × 8 × 3 × 32²" in here.lines[0].text
    free = here.figures["shared_memory_free_bytes"]
    workers = free // worker_bytes(SMALL, 4096) + 2
    full = shared(SMALL.replace(loader_workers=int(workers)), 4096, tmp_path)
    assert full.lines[0].verdict == Verdict.PROBLEM and "--loader-workers 0" in full.lines[0].advice
    assert full.figures["shared_memory_needed_bytes"] == workers * worker_bytes(SMALL, 4096)
    assert shared(SMALL, 32, tmp_path / "nowhere").lines[0].verdict == Verdict.WARNING


def test_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for hard, verdict in ((1100, Verdict.WARNING), (4096, Verdict.OK), (resource.RLIM_INFINITY, Verdict.OK)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (1024, hard))
        section = Section("Memory and files")
        check_open_files(section, SMALL.replace(window_slides=1024))
        assert section.lines[0].verdict == verdict
