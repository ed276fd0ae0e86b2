from pathlib import Path

import pytest

from rnagan.config.base import load_config, preset_names
from rnagan.config.reproduction import ReproductionConfig, Settings


@pytest.mark.parametrize("name", preset_names(ReproductionConfig))
def test_shipped_sizes_are_whole(name: str, tmp_path: Path) -> None:
    settings = Settings.read(name)
    settings.save(tmp_path)
    assert len(list(tmp_path.glob("*.yaml"))) == 6


def test_paper_has_the_articles_numbers() -> None:
    settings = Settings.read("paper")
    assert settings.evaluation.fid_tiles == 60_000 and settings.evaluation.extractor == "inception_v3"
    assert settings.evaluation.pretraining_tiles == 10_000 and settings.evaluation.external_tiles == 100
    assert (settings.simclr.backbone, settings.simclr.epochs, settings.simclr.lr) == ("resnet50", 100, 0.06)
    assert (settings.classifier.epochs, settings.classifier.batch_size, settings.classifier.lr) == (40, 4, 3e-5)
    assert (settings.external.backbone, settings.external.epochs) == ("resnet18", 10)
    assert (settings.vae.hidden, settings.vae.latent) == ("6000,4096", 2048)


def test_a_file_goes_over_the_preset_section_by_section(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("gan:\n  preset: released\n  images: 32\nevaluation:\n  fid_tiles: 9\n")
    settings = Settings.read("toy", file)
    assert settings.gan.images == 32 and settings.gan.batch_standardise and settings.gan.resolution == 32
    assert settings.evaluation.fid_tiles == 9 and settings.evaluation.shown_tiles == 2
    for text, said in (
        ("gans:\n  images: 3\n", "'gans' is no section of a reproduction; sections are vae, gan"),
        ("gan: 3\n", "'gan' is no section"),
        ("gan:\n  imags: 3\n", "'imags' is no setting of GANConfig; did you mean images?"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            Settings.read("toy", file)


def test_settings_of_earlier_versions_load(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("evaluation:\n  judged_tiles: 7\n")
    assert Settings.read("toy", file).evaluation.measured_tiles == 7
    file.write_text("judged_tiles: 5\nfid_tiles: 9\n")
    assert load_config(ReproductionConfig, file) == ReproductionConfig(measured_tiles=5, fid_tiles=9)
