import pytest

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.doctor.findings import Section, Verdict
from rnagan.doctor.rates import check_step
from rnagan.training.step_rate import condition_width

SMALL = {"resolution": 32, "batch_size": 16, "generator_width": 4, "critic_width": 4, "threads": 1}


pytestmark = pytest.mark.usefixtures("short_rates")


@pytest.mark.parametrize("preset", ["faithful", "released"])
def test_every_preset_can_be_measured(preset: str) -> None:
    config = resolve(GANConfig, read_preset(GANConfig, preset), SMALL)
    section = Section("Step")
    check_step(section, config, tile_px=32, seconds=1)
    (line,) = section.lines
    assert line.verdict == Verdict.OK and section.figures["step_images_per_second"] > 0
    assert condition_width(config) == {"faithful": 64, "released": 2048}[preset]


def test_larger_tiles_are_warned_of() -> None:
    section = Section("Step")
    check_step(section, GANConfig(**SMALL), tile_px=96, seconds=0)
    assert [line.verdict for line in section.lines] == [Verdict.WARNING, Verdict.OK]
    assert "--tile-px 32" in section.lines[0].advice
