import dataclasses
import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from rnagan import RNAGAN
from rnagan.cohort.leakage import donor_digest
from rnagan.evaluation.spectra import compare_spectra
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, make_evaluation_set
from rnagan.training.tile_inputs import TileInputs

TOOL = Path(__file__).parents[2] / "tools/compare_spectra.py"


@pytest.fixture
def paths(inputs: TileInputs, trained: Path) -> EvaluationInputs:
    return EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)


def test_real_and_generated_tiles_are_of_the_same_slides(trained: Path, paths: EvaluationInputs) -> None:
    model = RNAGAN.from_pretrained(trained)
    held_out = make_evaluation_set([model], paths, "test", 4)
    real, generated = list(held_out.real()), list(held_out.generated(model, 3))
    assert [len(tiles) for tiles in real] == [len(tiles) for tiles in generated] == held_out.rows["tiles"].tolist()
    assert set(held_out.rows["donor"]) == {f"D{k}" for k in range(7, 12)} and held_out.rows["tiles"].max() == 4
    row = held_out.rows.index[held_out.rows["slide"] == "D9-lung-slide"][0]
    assert held_out.expression is not None
    place = held_out.expression.obs.index.get_loc("D9-lung")
    latent = model.latents(held_out.expression.values[[place]], held_out.expression.genes, "tpm")[0]
    np.testing.assert_array_equal(
        generated[row], model.generate_tiles(latent, len(generated[row]), 3, "held-out/D9-lung-slide")
    )
    assert real[row].shape[1:] == (32, 32, 3)
    assert abs(real[row][..., 0].mean() - real[(row + 2) % len(real)][..., 0].mean()) > 0.5


def test_comparison_is_written_and_a_checkerboard_is_found(
    trained: Path, paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = compare_spectra(dataclasses.replace(paths, beside=(trained / "model",)), tmp_path / "own", n=3)
    assert result == json.loads((tmp_path / "own/spectra.json").read_text())
    assert set(result["models"]) == {str(trained), str(trained / "model")} and result["donors"] == 5
    assert set(result["real"]) == {"2", "4"}
    with Image.open(tmp_path / "own/spectra.png") as picture:
        assert np.asarray(picture).std() > 0

    def real_with(amplitude: float) -> Callable:
        board = amplitude * (-1) ** np.add.outer(range(32), range(32))[None, :, :, None]

        def generated(held_out: EvaluationSet, *_: object) -> Iterator:
            return (np.clip(tiles + board, 0, 255).astype(np.uint8) for tiles in held_out.real())

        return generated

    for amplitude, within in ((0, True), (8, False)):
        monkeypatch.setattr(EvaluationSet, "generated", real_with(amplitude))
        (found,) = compare_spectra(paths, tmp_path / "planted")["models"].values()
        assert found["within_tolerance"] is within
        assert found["over_real"]["4"]["prominence"] == pytest.approx(1, abs=0.05)
        if not within:
            assert found["worst"] == "2" and found["over_real"]["2"]["prominence"] > 1.1


def test_what_cannot_be_compared_is_refused(
    trained: Path, paths: EvaluationInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="A model generates from profiles; give --expression"):
        compare_spectra(dataclasses.replace(paths, expression=None), tmp_path)
    model = RNAGAN.from_pretrained(trained)
    larger = dataclasses.replace(model, config=model.config.replace(resolution=64))
    with pytest.raises(ValueError, match="generate tiles of 32 and 64 px"):
        make_evaluation_set([model, larger], paths, "test", 1)
    with pytest.raises(ValueError, match="holds tiles of 32 px, the models generate 64 px"):
        make_evaluation_set([larger], paths, "test", 1)
    with pytest.raises(ValueError, match="No slide of split test has tiles of a tissue"):
        make_evaluation_set([dataclasses.replace(model, tissues=["heart"])], paths, "test", 1)
    everybody = frozenset(model.train_donors | {donor_digest("D7")})
    with pytest.raises(ValueError, match=r"1 donors of split test \(D7\) were in the training split of a model"):
        make_evaluation_set([dataclasses.replace(model, train_donors=everybody)], paths, "test", 1)


def test_script(trained: Path, paths: EvaluationInputs, tmp_path: Path) -> None:
    main = runpy.run_path(str(TOOL))["main"]
    options = [f"--model={trained}", f"--shards={paths.shards}", f"--cohort={paths.cohort}", f"--out={tmp_path}"]
    done = CliRunner().invoke(main, [*options, f"--expression={paths.expression}", "--n=2"])
    assert done.exit_code == 0, done.output
    assert "checkerboards stand out as in real tiles times 2 px" in done.output and "10%." in done.output
