"""Training and evaluation on tiles with profiles of their own; one profile a slide is their special case."""

import dataclasses
import shutil
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rnagan.api import RNAGAN
from rnagan.cohort.table import read_cohort
from rnagan.config.simclr import SimCLRConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import select
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.evaluation.real_tiles import NumberedTiles, real_tiles, row_names, tiles_of_slides
from rnagan.evaluation.spectra import compare_spectra
from rnagan.evaluation.test_set import EvaluationInputs, make_evaluation_set
from rnagan.io.files import read_json, sha256_of_file, write_json
from rnagan.training.gan.train import train_gan
from rnagan.training.joined_profiles import shuffled_samples
from rnagan.training.simclr.train import _choose


@pytest.fixture(scope="module")
def spots(inputs, tmp_path_factory):
    """The toy cohort, whose tiles say themselves of which profile they are: the same bytes in the same order."""
    folder = tmp_path_factory.mktemp("spots") / "shards"
    plain = open_dataset(inputs.shards)
    sample_of = read_cohort(inputs.cohort).set_index("slide")["sample"]
    for slide in plain.slides["slide"]:
        with tarfile.open(plain.tar_address(slide)) as tar, ShardWriter(folder, slide) as shard:
            for row in plain.index(slide).itertuples():
                jpeg = tar.extractfile(f"{row.key}.jpg").read()
                shard.add(row.key, jpeg, {"slide": slide}, row.x, row.y, profile=sample_of[slide])
            shard.commit("done", {}, {}, {"tile_px": plain.tile_px, "mpp": plain.mpp, "profile": "tile"}, {})
    write_digest(folder)
    return dataclasses.replace(inputs, shards=folder)


def test_one_profile_a_slide_trains_to_the_same_bits_however_it_is_said(small, spots, trained, tmp_path, no_mlflow):
    train_gan(small, spots, tmp_path / "run")
    own, expected = (
        RNAGAN.from_pretrained(run, "cpu").generator.network.state_dict() for run in (tmp_path / "run", trained)
    )
    assert own and all(torch.equal(own[name], expected[name]) for name in expected)
    record = read_json(tmp_path / "run/model/model.json")
    assert record["split_by"] == "donor"


def test_an_evaluation_reads_the_same_tiles(spots, inputs, trained):
    model = RNAGAN.from_pretrained(trained, "cpu")
    own, expected = (
        make_evaluation_set([model], EvaluationInputs(trained, each.shards, each.cohort, each.expression), "test", 2)
        for each in (spots, inputs)
    )
    pd.testing.assert_frame_equal(own.rows, expected.rows)
    for one, other in zip(own.real(), expected.real(), strict=True):
        assert np.array_equal(one, other)
    assert row_names(own.shards, own.rows)[0] == f"{own.rows['slide'][0]}/{own.rows['sample'][0]}"
    assert row_names(expected.shards, expected.rows) == expected.rows["slide"].tolist()
    pd.testing.assert_frame_equal(own.train_rows(2), expected.train_rows(2))


def test_rows_of_a_slide_give_the_tiles_of_their_own_profiles(inputs, tmp_path):
    """Two profiles alternate among a slide's tiles: each row gives its own tiles, in stored order."""
    plain = open_dataset(inputs.shards)
    slide = plain.slides.sort_values("tiles")["slide"].iloc[-1]  # of five tiles
    with tarfile.open(plain.tar_address(slide)) as tar, ShardWriter(tmp_path, slide) as shard:
        for n, row in enumerate(plain.index(slide).itertuples()):
            jpeg = tar.extractfile(f"{row.key}.jpg").read()
            shard.add(row.key, jpeg, {"slide": slide}, row.x, row.y, profile="ab"[n % 2])
        shard.commit("done", {}, {}, {"tile_px": plain.tile_px, "mpp": plain.mpp, "profile": "tile"}, {})
    write_digest(tmp_path)
    shards, side = open_dataset(tmp_path), plain.tile_px
    (everything,) = tiles_of_slides(plain, pd.DataFrame({"slide": [slide], "tiles": [5]}), side)
    rows = pd.DataFrame({"slide": slide, "sample": ["b", "a"]})
    assert shards.stored(rows).tolist() == [2, 3]
    own = list(tiles_of_slides(shards, rows.assign(tiles=[2, 2]), side))
    assert np.array_equal(own[0], everything[1::2]) and np.array_equal(own[1], everything[[0, 2]])
    of_sample = dict(real_tiles(shards, rows, 9, side))
    assert np.array_equal(of_sample["a"], everything[::2]) and np.array_equal(of_sample["b"], everything[1::2])
    numbered = NumberedTiles(shards, rows, np.array([2, 3]), side)(range(5))
    assert np.array_equal(numbered, everything[[1, 3, 0, 2, 4]])


def test_the_null_of_one_donor_gives_each_spot_the_profile_of_another():
    table = pd.DataFrame({"sample": list("abcdef"), "donor": "D", "tissue": "lung"})
    given = shuffled_samples(table, 0, own_profiles=True)
    assert sorted(given) == list("abcdef") and not any(a == b for a, b in zip(given, table["sample"], strict=True))
    assert shuffled_samples(table, 0) == table["sample"].tolist()  # whole slides of one donor keep theirs, as ever


def test_what_is_held_out_is_said_and_another_split_is_refused(spots, inputs, trained, tmp_path):
    cohort = read_cohort(inputs.cohort).assign(split_by="section")
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    shutil.copytree(trained / "model", tmp_path / "model")
    asked = EvaluationInputs(tmp_path / "model", spots.shards, tmp_path / "cohort.csv", inputs.expression)
    models = [RNAGAN.from_pretrained(trained, "cpu")]
    with pytest.raises(ValueError, match="is split by section, and .*model was trained with another cohort table"):
        make_evaluation_set(models, asked, "test", 2)
    record = read_json(tmp_path / "model/model.json")
    record["made_from"]["cohort"] = sha256_of_file(tmp_path / "cohort.csv")  # as if it had been trained with it
    write_json(tmp_path / "model/model.json", record)
    held_out = make_evaluation_set(models, asked, "test", 2)
    assert held_out.split_by == "section" and "not for other people" in held_out.caveats[0]
    assert RNAGAN.from_pretrained(tmp_path / "model", "cpu").split_by == "donor"  # as its own table said
    found = compare_spectra(asked, tmp_path / "spectra", n=2)
    record = read_json(tmp_path / "spectra/evaluation_run.json")
    assert found["claim"] == record["claim"] == held_out.claim.sentence and record["split_by"] == "section"
    assert "sections of the same donors" in Image.open(tmp_path / "spectra/spectra.png").text["rnagan:held out"]
    plain = EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)
    assert make_evaluation_set(models, plain, "test", 2).caveats == []


def test_pre_training_does_not_choose_among_the_tiles_of_a_slide(spots):
    shards = open_dataset(spots.shards)
    with pytest.raises(
        ValueError, match="has a profile for each tile, and pre-training can't choose.*leave out --cohort"
    ):
        _choose(SimCLRConfig(), shards, spots.cohort)
    assert _choose(SimCLRConfig(), shards, None)[1].sum() == shards.slides["tiles"].sum()


def test_a_cohort_of_other_spots_is_refused(spots, inputs):
    cohort = read_cohort(inputs.cohort).assign(sample=lambda table: "other-" + table["sample"])
    with pytest.raises(ValueError, match="No profile of split train has tiles in .*; is it the cohort table of these"):
        select(open_dataset(spots.shards), cohort, "train", 600)
