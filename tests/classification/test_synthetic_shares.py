"""A classifier trained on real tiles, with generated ones added, and on generated ones alone."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from rnagan.api import RNAGAN
from rnagan.classification import cross_validation
from rnagan.classification.labelled_tiles import Labelled, people_of
from rnagan.classification.synthetic_shares import SyntheticInputs, check_shares, named, synthetic_shares
from rnagan.classification.synthetic_tiles import (
    Need,
    Synthetic,
    few_donors,
    generate_labelled,
    mixed,
    need_of,
)
from rnagan.cohort.leakage import donor_digest
from rnagan.cohort.table import read_cohort
from rnagan.commands.main import main
from rnagan.config.classifier import ClassifierConfig
from rnagan.data.index import open_dataset
from rnagan.io.files import read_json
from rnagan.models.resnet import build_backbone, save_backbone
from rnagan.training.tile_inputs import TileInputs

CONFIG = ClassifierConfig(
    backbone="resnet18", where="split=test", per_class=12, folds=2, epochs=1, batch_size=2, threads=1
)
CLASSES = ["cortex", "lung"]


def labelled(donors: int, tiles: int, value: int) -> Labelled:
    """`tiles` tiles of each of `donors` donors of each class, all pixels `value`."""
    labels = np.repeat([0, 1], donors * tiles)
    names = np.array([f"D{k}" for _ in CLASSES for k in range(donors) for _ in range(tiles)])
    return Labelled(np.full((len(labels), 2, 2, 3), value, np.uint8), labels.astype(np.int64), names)


@pytest.fixture
def real() -> Labelled:
    return labelled(6, 4, 0)


@pytest.fixture
def synthetic() -> Synthetic:
    made = labelled(8, 10, 255)
    samples = np.array([f"{donor}-{label}" for donor, label in zip(made.donors, made.labels, strict=True)])
    people = pd.DataFrame({"sample": samples, "donor": made.donors}).drop_duplicates()
    turn = np.tile(np.arange(10), 16)
    return Synthetic(made, samples, turn, people, "0" * 64, "1" * 64, {"cortex": 8, "lung": 8})


@pytest.mark.parametrize(("share", "of_real", "generated"), [(0.0, 16, 0), (0.5, 16, 16), (0.2, 16, 4), (1.0, 0, 16)])
def test_a_share_is_that_of_the_training_set(
    real: Labelled, synthetic: Synthetic, share: float, of_real: int, generated: int
) -> None:
    test = np.flatnonzero(np.isin(real.donors, ["D0", "D1"]))
    train = np.setdiff1d(np.arange(len(real.labels)), test)
    own = mixed(real, train, test, share, synthetic, CLASSES)
    is_generated = own.tiles[:, 0, 0, 0] == 255
    for label in (0, 1):
        of_class = own.labels == label
        assert ((of_class & ~is_generated).sum(), (of_class & is_generated).sum()) == (of_real, generated)
    assert not set(own.donors) & {"D0", "D1"}  # neither real nor generated
    if generated >= 6:  # as evenly over profiles as can be
        counts = pd.Series(own.donors[is_generated & (own.labels == 0)]).value_counts()
        assert counts.size == 6 and counts.max() - counts.min() <= 1
    assert need_of(real, train, test, share, CLASSES).tiles == [generated, generated]


@pytest.mark.attack(kind=4)
def test_a_profile_stays_out_by_everyone_whom_it_has_to_do_with(real: Labelled, synthetic: Synthetic) -> None:
    rows = [("D3-0", "D3", "D0"), ("D3-0", "D3", "D4"), ("D3-0", "D3", ""), ("D2-0", "D2", "")]
    people = people_of(pd.DataFrame(rows, columns=["sample", "donor", "image_donor"]))
    assert set(people[people["sample"] == "D3-0"]["donor"]) == {"D0", "D3", "D4"} and len(people) == 4
    paired = dataclasses.replace(synthetic, people=pd.concat([synthetic.people, people]))
    for tested in ("D0", "D3", "D4"):
        assert not (paired.samples[paired.first(0, 80, np.array([tested]))] == "D3-0").any()
    assert (paired.samples[paired.first(0, 80, np.array(["D1"]))] == "D3-0").any()


def test_shares_have_names_of_their_own() -> None:
    assert len({named(share) for share in (0, 0.331, 0.334, 0.996, 1)}) == 5 and named(0.07) == "7% generated"
    for shares, config, sentence in (
        ((0.5, 0.5), CONFIG, "Two values of --synthetic-share are the same"),
        ((0.9999,), CONFIG, "0.9999 would need 9,999 generated tiles for each real one; give at most 0.95"),
        ((0.5,), CONFIG.replace(validation_share=0.2), "leave out --validation-share"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_shares(shares, config)
    check_shares((0, 0.95, 1), CONFIG)


def test_what_is_generated_is_drawn_and_its_source_covers_class_and_people(
    asked: SyntheticInputs, tmp_path: Path
) -> None:
    cohort = read_cohort(asked.cohort)
    cohort = cohort[cohort["split"] == "test"]
    slides = cohort[cohort["slide"] != ""]

    def made(cohort: pd.DataFrame, seed: int = 0) -> Synthetic:
        given = asked.generator, asked.expression, cohort, asked.cohort, slides, 32, CLASSES, "tissue"
        return generate_labelled(*given, [Need([4, 4], np.array(["D7"]))], seed, "cpu")

    first = made(cohort)
    order = [list(dict.fromkeys(made(cohort, seed).samples)) for seed in range(3)]
    assert order[0] == list(dict.fromkeys(first.samples)) and len({tuple(own) for own in order}) > 1
    # A profile without a slide of its own gets another class, or an image of somebody's.
    extra = cohort["sample"] == "D11-lung2"
    relabelled = cohort.assign(tissue=cohort["tissue"].mask(extra, "cortex"))
    paired = cohort.assign(image_donor=np.where(extra, "D8", ""))
    assert len({first.source, made(relabelled).source, made(paired).source}) == 3
    assert made(cohort).source == first.source


def test_a_training_set_too_small_for_a_batch_is_refused_before_anything_is_generated(
    asked: SyntheticInputs, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="training tiles fill no batch of 10; lower batch_size"):
        synthetic_shares(CONFIG.replace(batch_size=10), asked, tmp_path, dry_run=True)


def test_a_generator_of_tiles_of_another_size_is_refused_before_anything_is_generated(
    asked: SyntheticInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RNAGAN, "generate_each", None)
    with pytest.raises(ValueError, match="tiles of 32 px, and real ones are read at 16; say --resolution 32"):
        synthetic_shares(CONFIG.replace(resolution=16), asked, tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_fewer_donors_are_among_more(real: Labelled) -> None:
    train = np.flatnonzero(real.donors != "D0")
    chosen = {count: few_donors(real, train, count, CLASSES, 0, 1) for count in (2, 3, 0)}
    assert set(chosen[2]) < set(chosen[3]) < set(chosen[0]) == set(train)
    for label in (0, 1):
        own = chosen[2][real.labels[chosen[2]] == label]
        assert len(np.unique(real.donors[own])) == 2 and len(own) == 8
    with pytest.raises(ValueError, match="Class cortex has 5 donors in the training part of fold 2, fewer than the 6"):
        few_donors(real, train, 6, CLASSES, 0, 1)


@pytest.fixture
def asked(inputs: TileInputs, trained: Path) -> SyntheticInputs:
    assert inputs.expression is not None
    return SyntheticInputs(inputs.shards, inputs.cohort, trained, inputs.expression, (0.0, 0.5, 1.0), (1, 0))


@pytest.mark.attack(kind=4)
def test_a_generator_that_saw_a_donor_of_a_fold_is_refused(asked: SyntheticInputs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"5 donors of split any fold \(D0.*\) were in the training split of"):
        synthetic_shares(CONFIG.replace(where=""), asked, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.attack(kind=4)
def test_weights_that_have_seen_these_tiles_or_donors_are_refused(asked: SyntheticInputs, tmp_path: Path) -> None:
    network, _ = build_backbone("resnet18", "batch", 0)
    asked = dataclasses.replace(asked, pretrained=tmp_path)
    record = {"backbone": "resnet18", "norm": "batch", "donors": None, "made_from": {"shards": "others"}}
    save_backbone(tmp_path, network, record)
    assert "start: SimCLR" in synthetic_shares(CONFIG, asked, tmp_path / "out", dry_run=True)[0]
    for changed, sentence in (
        ({"made_from": {"shards": open_dataset(asked.shards).digest}}, "was pretrained on these very tiles"),
        ({"donors": [donor_digest("D9")]}, "donors of split any fold .D9. were in the training split"),
    ):
        save_backbone(tmp_path, network, record | changed)
        with pytest.raises(ValueError, match=sentence):
            synthetic_shares(CONFIG, asked, tmp_path / "out", dry_run=True)


def test_words_that_are_wrong(inputs: TileInputs, trained: Path, tmp_path: Path) -> None:
    base = ["finetune-classifier", "--shards", inputs.shards, "--cohort", inputs.cohort, "--out", tmp_path / "out"]
    given = ["--generator", trained, "--expression", inputs.expression]
    for words, sentence in (
        (["--synthetic-share", "0,1"], "--synthetic-share needs --generator"),
        (given, "belong to --synthetic-share"),
        (["--synthetic-share", "0,2", *given], "give numbers from 0 to 1, each once"),
        (["--synthetic-share", "0,x", *given], "is no list of numbers"),
        (["--synthetic-share", "0,0", *given], "each once"),
        (["--synthetic-share", "0", *given], "needs a share above 0"),
        (["--synthetic-share", "0", "--real-donors", "-1", *given], "give numbers from 0 to"),
    ):
        done = CliRunner().invoke(main, list(map(str, [*base, *words])))
        assert done.exit_code == 2 and sentence in done.output, done.output


def test_every_share_at_every_number_of_donors(
    asked: SyntheticInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, Labelled]] = []
    fit = cross_validation.fit

    def recorded(data: Labelled, classes: list[str], config: ClassifierConfig, fold: int, *rest):
        shown.append((str(fold), data))
        return fit(data, classes, config, fold, *rest)

    monkeypatch.setattr(cross_validation, "fit", recorded)
    lines = synthetic_shares(CONFIG, asked, tmp_path, device="cpu")
    assert len(shown) == 12
    sizes = [len(data.labels) for _, data in shown]
    for k in range(0, 12, 6):  # real, twice as many, as many again, in both folds
        assert sizes[k + 2] == 2 * sizes[k] and sizes[k + 4] == sizes[k]
        assert sizes[k + 3] == 2 * sizes[k + 1] and sizes[k + 5] == sizes[k + 1]
    result = read_json(tmp_path / "synthetic.json")
    assert [own["count"] for own in result["real_donors"]] == [1, 0]
    for own in result["real_donors"]:
        assert list(own["starts"]) == ["real alone", "50% generated", "generated alone"]
        assert len(own["comparisons"]) == 6 and {"corrected_t_test", "low", "high"} <= set(own["comparisons"][0])
        assert sum(map(sum, own["starts"]["real alone"]["confusion"])) == 24  # every real tile is tested once
    page = (tmp_path / "synthetic.html").read_text()
    assert "1 real donor of each class" in page and page.count("data:image/png") == 1
    assert any(re.search(r"50% generated less real alone: [+-]\d", line) for line in lines)
    record = read_json(tmp_path / "evaluation_run.json")
    assert record["kind"] == "synthetic_shares" and "all/generated alone/accuracy" in record["scores"]
    shown.clear()
    assert synthetic_shares(CONFIG, asked, tmp_path, device="cpu") == lines and not shown  # finished folds are kept
    synthetic_shares(CONFIG, dataclasses.replace(asked, shares=(0.0, 0.5), real_donors=(0,)), tmp_path, device="cpu")
    assert not shown
