import json
from pathlib import Path

import pytest

from rnagan.config.gan import GANConfig
from rnagan.doctor.examine import Wanted, examine
from rnagan.training.tile_inputs import TileInputs
from tests import programs

ROOT = Path(__file__).parents[2]


QUICKLY = """
from rnagan.commands.main import main
from rnagan.doctor import reading
from rnagan.training import step_rate

step_rate.COUNTED_SECONDS, reading.SECONDS = 0.2, 0.2  # of each measurement
main()
"""


def test_a_report_from_end_to_end(inputs: TileInputs, tmp_path: Path) -> None:
    GANConfig(generator_width=4, critic_width=4, resolution=32, batch_size=8, images=1000).save(tmp_path / "run.yaml")
    (tmp_path / "quickly.py").write_text(QUICKLY)
    found = programs.run(
        *(tmp_path / "quickly.py", "doctor"),
        *("--shards", inputs.shards, "--cohort", inputs.cohort, "--config", tmp_path / "run.yaml"),
        *("--launch", ROOT / "launch_configs/gpu_eight.yaml", "--json", tmp_path / "doctor.json"),
    )
    assert found.returncode == 1 and found.stderr == "", found.stderr  # for want of eight GPUs
    titles = ["Versions", "Launch ", "Processors", "Memory and files", "Tiles of ", "Training step at 32 px", "Outlook"]
    lines = found.stdout.splitlines()
    heads = [line for before, line in zip(["", *lines], lines, strict=False) if before == ""][:-1]
    assert all(head.startswith(title) for head, title in zip(heads, titles, strict=True)), heads
    assert lines[-1].startswith("Not ready (1 problem")
    report = json.loads((tmp_path / "doctor.json").read_text())
    assert not report["ready"] and report["problems"] == 1
    figures = {key: value for section in report["sections"] for key, value in section["figures"].items()}
    assert figures["images"] == 1000
    assert 0 < figures["images_per_second"] <= figures["step_images_per_second"]
    assert figures["loader_images_per_second"] > 0


def test_mistakes_come_before_any_check(inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    missing = tmp_path / "nowhere"
    for wanted, named in (
        (Wanted(GANConfig(), shards=str(missing)), "nowhere"),
        (Wanted(GANConfig(), shards=str(inputs.shards), cohort=missing), "nowhere"),
        (Wanted(GANConfig(), launches=(missing,)), "nowhere"),
        (Wanted(GANConfig(), cohort=inputs.cohort), "give both"),
        (Wanted(GANConfig(resolution=256), shards=str(inputs.shards)), "--tile-px 256"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=named):
            examine(wanted, said.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--launch"):
        examine(Wanted(GANConfig()), said.append)
    assert said == []
