from pathlib import Path

import numpy as np
import pytest

from rnagan.config.gan import GANConfig
from rnagan.training.gan.train import train_gan
from rnagan.training.latent_table import LatentTable, latent_table
from rnagan.training.tile_inputs import TileInputs


@pytest.fixture
def encode():
    """Counts how often it is called."""

    def encode() -> LatentTable:
        encode.calls += 1
        return LatentTable(["b", "a é", "c"], np.arange(12, dtype=np.float32).reshape(3, 4), ["c", "a é"])

    encode.calls = 0
    return encode


def test_profiles_are_encoded_once(tmp_path: Path, encode) -> None:
    for _ in range(3):
        table = latent_table(tmp_path / "run", "digest", encode)
        assert table.samples == ["b", "a é", "c"] and table.shown == ["c", "a é"]
        np.testing.assert_array_equal(table.of(["c", "b", "c"]), [[8, 9, 10, 11], [0, 1, 2, 3], [8, 9, 10, 11]])
        assert table.values.dtype == np.float32
    assert encode.calls == 1


@pytest.mark.parametrize("spoil", ["other inputs", "cut", "another file", "gone"])
def test_a_table_that_is_not_this_runs_is_made_again(tmp_path: Path, encode, spoil) -> None:
    latent_table(tmp_path, "digest", encode)
    path = tmp_path / "latents.parquet"
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif spoil == "another file":
        path.write_bytes(b"something else")
    elif spoil == "gone":
        path.unlink()
    digest = "another" if spoil == "other inputs" else "digest"
    assert latent_table(tmp_path, digest, encode).values[2, 3] == 11
    assert encode.calls == 2


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_that_goes_on_encodes_nothing(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_gan(small.replace(images=16), inputs, tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("profiles were encoded again")

    monkeypatch.setattr("rnagan.training.joined_profiles._encode", refuse)
    train_gan(small.replace(images=24), inputs, tmp_path)
    with pytest.raises(AssertionError, match="encoded again"):
        train_gan(small.replace(images=16), inputs, tmp_path / "other")
