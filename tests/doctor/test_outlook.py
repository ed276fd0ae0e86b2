import pytest

from rnagan.config.gan import GANConfig
from rnagan.doctor.findings import Section, Verdict
from rnagan.doctor.rates import Rates, check_outlook

CONFIG = GANConfig(images=3_600_000)


def outlook(rates: Rates) -> Section:
    section = Section("Outlook")
    check_outlook(section, CONFIG, rates)
    return section


def test_on_a_gpu_the_slower_of_both_decides() -> None:
    section = outlook(Rates(step=100, loader=4000, decode=5000, gpus=1))
    assert section.lines[0].text == "The step is the bottleneck: the loader could feed 40 of these."
    assert section.figures["images_per_second"] == 100 and section.figures["hours"] == 10
    slow = outlook(Rates(step=100, loader=50, decode=5000, gpus=1))
    assert slow.lines[0].verdict == Verdict.WARNING and "feeds 50% of what the step could take" in slow.lines[0].text
    assert slow.figures["hours"] == 20


def test_on_a_cpu_both_want_the_same_cores() -> None:
    section = outlook(Rates(step=100, loader=300, decode=5000, gpus=0))
    assert section.figures["images_per_second"] == pytest.approx(75)  # 1 / (1/100 + 1/300)
    assert "loading costs 25% of the time" in section.lines[0].text


def test_weeks_are_a_warning() -> None:
    (line,) = outlook(Rates(step=1, loader=None, decode=None, gpus=0)).lines
    assert line.verdict == Verdict.WARNING and "1,000 hours (42 days), if the loader keeps up" in line.text


def test_all_gpus_get_what_all_cores_decode() -> None:
    for decode, verdict in ((900, Verdict.OK), (700, Verdict.WARNING), (None, Verdict.NOTE)):
        line = outlook(Rates(step=100, loader=600, decode=decode, gpus=8)).lines[-1]
        assert line.verdict == verdict and "All 8 GPUs would take up to 800 images/s" in line.text
