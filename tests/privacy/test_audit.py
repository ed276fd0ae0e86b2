"""The audit of a small model, from its files to the page."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from rnagan.api import RNAGAN
from rnagan.cohort.leakage import donor_digest
from rnagan.evaluation.handmade import HandmadeStatistics
from rnagan.evaluation.test_set import EvaluationInputs
from rnagan.privacy import audit as module
from rnagan.privacy.audit import Asked, audit_privacy


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "make_extractor", lambda *_, **__: HandmadeStatistics())


@pytest.fixture
def paths(inputs, trained):
    return EvaluationInputs(trained, inputs.shards, inputs.cohort, inputs.expression)


QUICK = Asked(tiles=3, copies=8, draws=99)


def test_files_page_and_lines(paths, tmp_path):
    said = "\n".join(audit_privacy(paths, QUICK, tmp_path, "cpu"))
    result = json.loads((tmp_path / "privacy.json").read_text())
    assert set(result["membership"]) == {"nearest", "critic", "profile"} and result["unit"] == "donor"
    for own in result["membership"].values():
        assert (own["members"], own["others"]) == (5, 5) and 0 <= own["low"] <= own["auc"] <= own["high"] <= 1
    assert result["copies"]["generated"] >= 8 and result["seconds"] > 0
    assert any("Fewer than 10 donors" in note for note in result["notes"])
    assert "No --reference" in said and "Copies:" in said and "stand out" in said
    page = (tmp_path / "privacy.html").read_text()
    risky = pd.read_csv(tmp_path / "at_risk.csv")
    assert len(risky) == result["at_risk"] and set(risky["donor"]) <= {f"D{k}" for k in range(5)}
    for path in ("privacy.json", "privacy.html"):  # may be given away with the model
        assert not any(f"D{k}-" in (tmp_path / path).read_text() or f">D{k}<" in page for k in range(12))


@pytest.mark.slow
@pytest.mark.guard
def test_a_model_that_gives_out_its_training_tiles_is_found(paths, tmp_path, monkeypatch):
    """Its tiles are members' real ones, whoever's profile is asked for."""
    kept = {}
    honest = module._with_tiles

    def remember(held_out, rows, *rest):
        kept["tiles"] = np.concatenate(list(module.tiles_of_slides(held_out.shards, rows[rows["member"]], 32)))
        kept["tissue"] = np.repeat(rows["tissue"][rows["member"]].to_numpy(), rows["tiles"][rows["member"]])
        return honest(held_out, rows, *rest)

    def copies(held_out, model, rows, seed):
        made = []
        for tissue, tiles in zip(rows["tissue"], rows["tiles"], strict=True):
            own = kept["tiles"][kept["tissue"] == tissue]
            made.append(own[np.random.default_rng(len(made)).integers(0, len(own), tiles)])
        return np.concatenate(made)

    monkeypatch.setattr(module, "_with_tiles", remember)
    monkeypatch.setattr(module, "_generated", copies)
    audit_privacy(paths, QUICK, tmp_path, "cpu")
    own = json.loads((tmp_path / "privacy.json").read_text())["membership"]["nearest"]
    assert own["auc"] > 0.8 and own["auc"] > own["chance_high"]


@pytest.mark.slow
@pytest.mark.guard
def test_a_reference_compares_those_whom_it_did_not_see(paths, tmp_path, monkeypatch):
    load = RNAGAN.from_pretrained

    def other(folder, device):
        model = load(folder if folder != tmp_path / "other" else paths.model, device)
        seen = frozenset(donor_digest(f"D{k}") for k in (0, 1, 7, 8))
        return dataclasses.replace(model, train_donors=seen) if folder == tmp_path / "other" else model

    monkeypatch.setattr(module.RNAGAN, "from_pretrained", other)
    audit_privacy(paths, dataclasses.replace(QUICK, reference=tmp_path / "other"), tmp_path / "out", "cpu")
    result = json.loads((tmp_path / "out/privacy.json").read_text())
    assert result["membership"]["density"]["members"] == 3 == result["membership"]["nearest"]["members"]
    assert result["membership"]["density"]["auc"] == pytest.approx(0.5)  # the same model: all ratios are alike
    monkeypatch.setattr(module.RNAGAN, "from_pretrained", load)
    with pytest.raises(ValueError, match="was trained on everybody whom"):
        audit_privacy(paths, dataclasses.replace(QUICK, reference=paths.model), tmp_path / "same", "cpu")


@pytest.mark.slow
@pytest.mark.guard
def test_the_claim_of_sections_stands_in_all_outputs(section_set, section_run, tmp_path):
    paths = EvaluationInputs(section_run, section_set.shards, section_set.cohort, section_set.expression)
    said = "\n".join(audit_privacy(paths, QUICK, tmp_path, "cpu"))
    result = json.loads((tmp_path / "privacy.json").read_text())
    assert (result["unit"], result["split_by"]) == ("slide", "section")
    assert (result["membership"]["nearest"]["members"], result["membership"]["nearest"]["others"]) == (2, 1)
    page = (tmp_path / "privacy.html").read_text()
    assert "not for other people" in page and page.count("Split by section") == 1 == said.count("Split by section")


@pytest.mark.slow
@pytest.mark.guard
def test_a_model_that_was_given_away_has_no_critic(paths, tmp_path):
    given = dataclasses.replace(paths, model=paths.model / "model")
    said = "\n".join(audit_privacy(given, QUICK, tmp_path / "out", "cpu"))
    assert "so it was not asked" in said and "critic's score:" not in said
