"""What is evaluated is one definition, with all checks, whichever evaluation asks."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from rnagan.api import RNAGAN
from rnagan.cohort.leakage import donor_digest
from rnagan.data.index import open_dataset
from rnagan.evaluation import test_set
from rnagan.evaluation.confounder_report import Asked, confounder_report
from rnagan.evaluation.faithfulness import evaluate
from rnagan.evaluation.fid import compute_fid
from rnagan.evaluation.memorization import nearest_tiles
from rnagan.evaluation.spectra import compare_spectra
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, make_evaluation_set, open_evaluation_set
from rnagan.io.files import read_json
from rnagan.models.gan_generator import GANGenerator
from rnagan.models.generators import build_generator
from rnagan.runtime.distributed import Processes
from rnagan.training.tile_inputs import TileInputs
from tests.evaluation.pixels import Pixels

EVALUATIONS: dict[str, Callable[[EvaluationInputs, Path], object]] = {
    "faithfulness": lambda inputs, out: evaluate(inputs, out, n=1),
    "confounders": lambda inputs, out: confounder_report(inputs, Asked(("site",), n=1, draws=99), out),
    "spectra": lambda inputs, out: compare_spectra(inputs, out, n=1),
    "memorization": lambda inputs, out: nearest_tiles(inputs, out, tiles=4, extractor=Pixels()),
    "fid": lambda inputs, out: compute_fid(
        inputs, out, Pixels(), out / "cache", Processes(0, 1), count=20, map_tiles=0
    ),
}


@pytest.fixture
def paths(inputs: TileInputs, trained: Path) -> EvaluationInputs:
    return EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)


@pytest.fixture
def model(trained: Path) -> RNAGAN:
    return RNAGAN.from_pretrained(trained)


def changed_cohort(paths: EvaluationInputs, folder: Path, **columns: object) -> EvaluationInputs:
    cohort = pd.read_csv(paths.cohort, dtype=str, keep_default_na=False).assign(**columns)
    cohort.to_csv(folder / "cohort.csv", index=False)
    return dataclasses.replace(paths, cohort=folder / "cohort.csv")


def with_where(model: RNAGAN, where: str) -> RNAGAN:
    return dataclasses.replace(model, config=model.config.replace(where=where))


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("mistake", ["mpp", "seen", "repeated", "splits", "tissue"])
def test_every_evaluation_makes_every_check(
    paths: EvaluationInputs, model: RNAGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mistake: str
) -> None:
    def loaded(**changes: object) -> None:
        monkeypatch.setattr(RNAGAN, "from_pretrained", lambda *_: dataclasses.replace(model, **changes))

    if mistake == "mpp":
        coarse = dataclasses.replace(open_dataset(paths.shards), mpp=2.0)
        monkeypatch.setattr(test_set, "open_dataset", lambda _: coarse)
        said = "at 2.0 µm per px, and a model generates 32 px at 1.0; give shards of the kind"
    elif mistake == "seen":
        loaded(train_donors=model.train_donors | {donor_digest("D8")})
        said = r"1 donors of split test \(D8\) were in the training split of a model"
    elif mistake == "repeated":
        profiles = anndata.read_h5ad(paths.expression)
        profiles.obs = profiles.obs.rename({"D9-lung": "D8-lung"})
        with warnings.catch_warnings(action="ignore"):  # anndata's own, of names that aren't unique
            profiles.write_h5ad(tmp_path / "twice.h5ad")
        paths = dataclasses.replace(paths, expression=tmp_path / "twice.h5ad")
        said = "has the profile D8-lung more than once; give each a name of its own"
    elif mistake == "splits":
        swap = {"train": "test", "test": "train", "validation": "validation"}
        split = pd.read_csv(paths.cohort)["split"].map(swap)
        paths, said = changed_cohort(paths, tmp_path, split=split), "are in one split in .*cohort.csv and in another"
    else:
        loaded(tissues=["heart"])
        said = "has no profile of heart in split test|No slide of split test has tiles of a tissue"
    with pytest.raises(ValueError, match=said):
        EVALUATIONS[name](paths, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json"))


def test_the_runs_own_where_chooses_what_is_evaluated_and_what_was_trained_on(
    paths: EvaluationInputs, model: RNAGAN
) -> None:
    whole = make_evaluation_set([model], paths, "test")
    part = make_evaluation_set([with_where(model, "site=site0")], paths, "test")
    donors = pd.read_csv(paths.cohort).query("site == 'site0'")["donor"]
    for one, other in ((whole.rows, part.rows), (whole.about.loc[whole.samples], part.about.loc[part.samples])):
        assert set(other["donor"]) == set(one["donor"]) & set(donors) < set(one["donor"])
    assert set(part.train_rows(99)["donor"]) == set(whole.train_rows(99)["donor"]) & set(donors)
    both = make_evaluation_set([model, with_where(model, "site=site0")], paths, "test")
    pd.testing.assert_frame_equal(both.rows, part.rows)  # models are compared on tiles that all of them stand for


def test_copies_are_looked_for_among_the_tiles_that_the_runs_own_where_takes(
    paths: EvaluationInputs, model: RNAGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_site = with_where(model, "site=site0")
    monkeypatch.setattr(RNAGAN, "from_pretrained", lambda *_: of_site)
    found = nearest_tiles(paths, tmp_path, tiles=4, extractor=Pixels())
    cohort, tiles = pd.read_csv(paths.cohort), open_dataset(paths.shards).slides.set_index("slide")["tiles"]
    train = cohort[(cohort["split"] == "train")].assign(tiles=cohort["slide"].map(tiles))
    assert found["of_training_tiles"] == train.query("site == 'site0'")["tiles"].sum() < train["tiles"].sum()


def test_slides_profiles_and_other_people(paths: EvaluationInputs, model: RNAGAN, tmp_path: Path) -> None:
    held_out = make_evaluation_set([model], paths, "test", 2)
    assert len(held_out.samples) == 11 and len(held_out.rows) == 10  # one profile has no slide
    assert held_out.rows["slide"].is_monotonic_increasing and held_out.rows["tiles"].max() == 2
    assert held_out.own_people and held_out.train_rows(2)["tiles"].max() == 2
    slides = pd.read_csv(paths.cohort, keep_default_na=False)["slide"]
    assert not open_evaluation_set(changed_cohort(paths, tmp_path, image_donor=slides), "test").own_people
    bare = changed_cohort(paths, tmp_path, slide=slides.where(pd.read_csv(paths.cohort)["split"] != "test", ""))
    with pytest.raises(ValueError, match="No slide of split test has tiles"):
        open_evaluation_set(bare, "test")
    assert open_evaluation_set(bare, "test", need="profiles").rows.empty


def test_tiles_are_generated_in_batches_over_profiles(paths: EvaluationInputs, model: RNAGAN) -> None:
    """The batch decides nothing, and a wrong variant that lets noise run on from profile to profile is another."""
    held_out = make_evaluation_set([model], paths, "test", 3)
    latents = held_out.latents(model, held_out.samples[:4])
    counts, names = [3, 0, 70, 2], held_out.samples[:4].tolist()
    for batch in (5, 64):
        each = list(model.generate_each(latents, names, counts, 1, batch_size=batch))
        assert [len(tiles) for tiles in each] == counts
        for latent, name, tiles in zip(latents, names, each, strict=True):
            if len(tiles):
                alone = model.generate_tiles(latent, len(tiles), 1, name)
                assert np.abs(alone.astype(int) - tiles).max() <= 1
    wrong = model.generate_tiles(latents[3], 75, 1, names[3])[73:]
    assert np.abs(wrong.astype(int) - each[3]).max() > 1


def test_a_model_that_standardises_over_its_batch_generates_one_profile_at_a_time(
    paths: EvaluationInputs, model: RNAGAN
) -> None:
    """As `generate_tiles` does: its tiles depend on those beside them."""
    assert model.bottleneck is not None
    config = model.config.replace(condition="latent_plus_noise", critic="image_only", batch_standardise=True)
    width = model.bottleneck.width
    generator = GANGenerator(config, build_generator(config, width).eval(), width)
    released = dataclasses.replace(model, config=config, generator=generator)
    held_out = make_evaluation_set([released], paths, "test", 3)
    latents = held_out.latents(released, held_out.samples[:2])
    each = list(released.generate_each(latents, ["a", "b"], [70, 3], 1))
    for latent, name, tiles in zip(latents, "ab", each, strict=True):
        np.testing.assert_array_equal(tiles, released.generate_tiles(latent, len(tiles), 1, name))


@pytest.mark.slow
def test_an_evaluation_leaves_its_record(paths: EvaluationInputs, tmp_path: Path) -> None:
    for name, run in EVALUATIONS.items():
        run(paths, tmp_path / name)
        record = read_json(tmp_path / name / "evaluation_run.json")
        assert record["kind"] == name and record["scores"] and record["protocol"]["split"] == "test"
        assert all(set(score) <= {"value", "low", "high"} for score in record["scores"].values())


def test_a_request_follows_from_inputs_and_settings(paths: EvaluationInputs, truth: Path, tmp_path: Path) -> None:
    first = paths.request(paths.protocol(n=1))
    assert paths.request(paths.protocol(n=1)) == first != paths.request(paths.protocol(n=2))
    other = changed_cohort(paths, tmp_path, extra="x")
    assert other.request(other.protocol(n=1)) != first
    for change in ({"truth": truth}, {"null": paths.model}, {"beside": (paths.model,)}):
        changed = dataclasses.replace(paths, **change)
        assert changed.request(changed.protocol(n=1)) != first
    with pytest.raises(FileNotFoundError, match="holds no trained model"):
        dataclasses.replace(paths, model=tmp_path).protocol()


def test_a_set_is_frozen(paths: EvaluationInputs) -> None:
    held_out: EvaluationSet = open_evaluation_set(paths, "test")
    with pytest.raises(dataclasses.FrozenInstanceError):
        held_out.rows = held_out.rows.iloc[:1]
