from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.evaluation import external_profiles


def test_tissues_match_without_case_or_as_the_table_says(tmp_path: Path) -> None:
    theirs, ours = ["lung", "LIVER", "cerebral cortex", "kidney"], ["Lung", "Liver", "Brain"]
    assert external_profiles.match_tissues(theirs, ours) == {"LIVER": "Liver", "lung": "Lung"}
    table = tmp_path / "map.csv"
    table.write_text("external,ours\ncerebral cortex,Brain\n")
    assert external_profiles.match_tissues(theirs, ours, table)["cerebral cortex"] == "Brain"
    table.write_text("external,ours\nspleen,Brain\n")
    with pytest.raises(ValueError, match="the external file has no tissue spleen; correct column external"):
        external_profiles.match_tissues(theirs, ours, table)
    table.write_text("external,ours\nkidney,Kidney\n")
    with pytest.raises(ValueError, match="the training split has no tissue Kidney; correct column ours"):
        external_profiles.match_tissues(theirs, ours, table)
    table.write_text("theirs,ours\nkidney,Liver\n")
    with pytest.raises(ValueError, match="has no column external"):
        external_profiles.match_tissues(theirs, ours, table)
    with pytest.raises(ValueError, match="shares no tissue with the training split .*say with --tissue-map"):
        external_profiles.match_tissues(["kidney"], ours)


def test_accuracy_by_tissue_and_both_means() -> None:
    calls = pd.DataFrame({"vae": ["a", "a", "b", "a"], "pca": ["b", "a", "b", "b"]})
    table = external_profiles.accuracy_by_tissue(calls, np.array(["a", "a", "a", "b"])).set_index("tissue")
    np.testing.assert_allclose(table.loc["a", ["samples", "vae", "pca"]].astype(float), [3, 2 / 3, 1 / 3])
    np.testing.assert_allclose(table.loc["b", ["samples", "vae", "pca"]].astype(float), [1, 0, 1])
    np.testing.assert_allclose(table.loc["all samples", ["vae", "pca"]].astype(float), [0.5, 0.5])
    np.testing.assert_allclose(table.loc["mean of tissues", ["vae", "pca"]].astype(float), [1 / 3, 2 / 3])


def test_calls_are_of_the_training_neighbours_of_each_space() -> None:
    train = {"vae": np.array([[0.0], [1.0]]), "pca": np.zeros((2, 0)), "z_scores": np.array([[1.0], [0.0]])}
    points = {"vae": np.array([[0.1]]), "pca": np.zeros((1, 0)), "z_scores": np.array([[0.1]])}
    calls = external_profiles.call_tissues(train, np.array(["a", "b"]), points, k=1)
    assert calls.to_dict("list") == {"vae": ["a"], "z_scores": ["b"]}


def test_a_cohort_of_few_tissues_is_warned_about() -> None:
    ours = [f"tissue {k % 26}" for k in range(520)]
    assert external_profiles.tissue_imbalance([f"theirs {k % 20}" for k in range(129)], ours) is None
    warning = external_profiles.tissue_imbalance(["stomach"] * 10, ours)
    assert warning is not None and "its 10 samples count as 1.0 tissues, the training split's as 26.0" in warning
    skewed = [f"theirs {k}" for k in range(20)] + ["stomach"] * 40  # as many tissues, and mostly one: 60² / 1,620
    assert "its 60 samples count as 2.2 tissues" in (external_profiles.tissue_imbalance(skewed, ours) or "")
