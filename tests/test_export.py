"""A model that is given away: its folder, its card, and its way to a hub and back."""

import json
import shutil
from pathlib import Path

import anndata
import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest

from rnagan.api import RNAGAN
from rnagan.export import Card, export_model
from rnagan.expression.h5ad import read_expression
from rnagan.io import hub
from rnagan.tracking.evaluations import record_evaluation

CARD = Card("Toy tissue", "apache-2.0", "Made <b>by</b>\n\n# tests | of ours.")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def exported(trained, tmp_path):
    export_model(trained, tmp_path / "out", CARD)
    return tmp_path / "out"


@pytest.fixture
def local_hub(exported, tmp_path, monkeypatch):
    """The hub's own cache with the exported model as toys/tissue, laid out as `huggingface_hub` does it, and no way
    out."""
    cache = tmp_path / "hub"
    repository = cache / "models--toys--tissue"
    snapshot = repository / "snapshots" / REVISION
    for k, path in enumerate(path for path in sorted(exported.rglob("*")) if path.is_file()):
        blob = repository / "blobs" / f"{k:040d}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        link = snapshot / path.relative_to(exported)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(REVISION)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("RNAGAN_CACHE", str(tmp_path / "kept"))
    return snapshot


def tiles_of(model, inputs):
    expression = read_expression(inputs.expression)
    adata = anndata.AnnData(
        expression.values[:2], expression.obs[:2], pd.DataFrame(index=expression.genes), uns={"units": "tpm"}
    )
    return RNAGAN.from_pretrained(model, "cpu").generate(adata, 2)


def test_a_folder_and_an_id_give_the_same_tiles(trained, exported, local_hub, inputs, tmp_path):
    own = tiles_of(trained, inputs)
    assert np.array_equal(tiles_of(exported, inputs), own)
    assert np.array_equal(tiles_of("toys/tissue", inputs), own)
    kept = tmp_path / "kept/hub/toys--tissue" / REVISION
    assert not any(path.is_symlink() for path in kept.rglob("*")) and (kept / "README.md").is_file()
    shutil.rmtree(local_hub.parents[1] / "blobs")  # what was fetched once is there
    assert hub.fetched("hf:toys/tissue") == kept


def test_what_leads_out_of_the_cache_is_refused(local_hub, tmp_path):
    (tmp_path / "secret").write_text("s")
    (local_hub / "model/vae.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leads out of the hub's cache"):
        hub.fetched("toys/tissue")
    assert not list((tmp_path / "kept").rglob("vae.txt"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toys/other", "There is no folder toys/other, and no model of this name could be fetched"),
        ("hf:toys", "toys is no id of a model on the hub"),
        ("hf:../etc/passwd", "is no id of a model"),
    ],
)
def test_ids_of_no_model(name, said, local_hub):
    with pytest.raises(ValueError, match=said):
        hub.fetched(name)


def test_folders_are_no_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    assert (
        str(hub.fetched("runs/mine")) == "runs/mine" and not hub.is_hub_id("/work/runs") and not hub.is_hub_id("a/../b")
    )


def test_a_path_is_no_id(local_hub):
    assert hub.is_hub_id("runs/typo") and not hub.is_hub_id(Path("runs/typo"))
    with pytest.raises(FileNotFoundError, match="holds no trained model"):
        RNAGAN.from_pretrained(Path("runs/typo"), "cpu")


def test_a_snapshot_without_a_model_is_refused(local_hub):
    (local_hub / "model/model.json").unlink()
    with pytest.raises(ValueError, match="holds no model of rnagan export-model, or it was fetched in part"):
        hub.fetched("toys/tissue")


def test_the_card(exported, trained):
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and "32 px at 1.0 µm per px" in card
    assert "Made &lt;b>by&lt;/b> # tests | of ours." in card and "<b>" not in card
    assert "Trained on 5 donors" in card and "Splits are by donor" in card and "No evaluation was given" in card
    assert not any(f"D{k}" in card for k in range(12))
    assert json.loads((exported / "model/model.json").read_text()) == json.loads(
        (trained / "model/model.json").read_text()
    )


def audit(model, folder, auc, low, digest=None):
    folder.mkdir()
    scores = {"nearest/auc": {"value": auc, "low": low, "high": 0.9}, "train/x": {"value": 1.0}}
    record_evaluation(folder, "privacy", digest or model, scores, {"seed": 0})
    return folder


def test_figures_are_those_of_this_model_and_risky_ones_stop(trained, tmp_path, no_mlflow):
    lines = export_model(
        trained, tmp_path / "out", CARD, (audit(trained, tmp_path / "safe", 0.6, 0.45),), most_auc=0.55
    )
    assert "| nearest/auc | 0.6 | 0.45 to 0.9 |" in (tmp_path / "out/README.md").read_text()
    assert "train/x" not in (tmp_path / "out/README.md").read_text() and not any("No privacy" in line for line in lines)
    with pytest.raises(ValueError, match="AUC of 0.700 .nearest/auc., above 0.550: the model is not exported"):
        export_model(trained, tmp_path / "no", CARD, (audit(trained, tmp_path / "risky", 0.7, 0.6),), most_auc=0.55)
    with pytest.raises(ValueError, match="needs a privacy audit"):
        export_model(trained, tmp_path / "no", CARD, most_auc=0.55)
    with pytest.raises(ValueError, match="is an evaluation of another model"):
        export_model(trained, tmp_path / "no", CARD, (audit(trained, tmp_path / "other", 0.6, 0.5, "f" * 64),))
    with pytest.raises(ValueError, match="holds no evaluation"):
        export_model(trained, tmp_path / "no", CARD, (tmp_path,))
    assert not (tmp_path / "no").exists()
    (tmp_path / "mine").mkdir()
    for mine in (tmp_path / "mine", trained):  # a run holds a model too, and much else
        with pytest.raises(ValueError, match="exists and holds no exported model"):
            export_model(trained, mine, CARD)
    export_model(trained, tmp_path / "out", CARD)  # again, over its own


def test_a_push_without_a_way_out_says_so(exported, local_hub):
    with pytest.raises(ValueError, match="could not be pushed to toys/tissue"):
        hub.push(exported, "toys/tissue")
