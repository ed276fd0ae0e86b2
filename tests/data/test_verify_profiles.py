"""check_shards.py on profile shards: the checks of test_check.py, where profiles have their own."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.data.import_webdataset import adopt_folder
from rnagan.data.manifest import write_record
from rnagan.data.npy_codec import encode_profile
from rnagan.data.profile_shards import open_profile_set
from rnagan.data.set_digest import write_digest
from rnagan.data.verify import check_folder
from rnagan.data.writer import ShardWriter
from rnagan.io.files import read_json, sha256_of
from tests import programs
from tests.data.profiles import files, make_set

FIRST = "profiles-00000"
AGAIN = "build these profiles again (rnagan build-profiles)"


@pytest.fixture
def folder(tmp_path):
    make_set(tmp_path, 11, per_shard=4)
    return tmp_path / "profiles"


def findings(folder, **options):
    return [str(finding) for finding in check_folder(folder, **options).findings]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def rewrite(folder, stored=None, samples=None, units="tpm", options=None, key=FIRST):
    """The first shard anew, and vouched for as if it were right."""
    opened, record = open_profile_set(folder), read_json(folder / f"{FIRST}.record.json")
    with ShardWriter(folder, FIRST) as shard:
        for place, sample in enumerate(samples or opened.samples[:4]):
            shard.add_profile(f"{key}_n{place}", stored or encode_profile(np.zeros(13, np.float32)), sample, units)
        shard.commit("done", {}, record["source"], record["options"] | (options or {}), {})


def test_a_sound_folder_has_no_findings(folder):
    report = check_folder(folder, decode=True)
    assert report.findings == [] and (report.slides, report.tiles) == (3, 11)
    done = programs.run("rnagan", "check-shards", folder, "--decode")
    assert done.returncode == 0 and "3 shards, 11 profiles, " in done.stdout and "0 findings." in done.stdout


def change_index(folder, change):
    path = folder / f"{FIRST}.index.parquet"
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def change_table(folder, name, change):
    table = pd.read_parquet(folder / name)
    change(table).to_parquet(folder / name, index=False)


def change_options(folder, **changes):
    path = folder / f"{FIRST}.record.json"
    record = read_json(path)
    options = record["options"] | changes
    write_record(folder, record | {"options": options, "options_digest": sha256_of(options)})


def swapped(table):
    table.loc[[0, 1], "sample"] = table.loc[[1, 0], "sample"].to_numpy()
    return table


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda f: flip(f / f"{FIRST}.tar", 700), f"{FIRST}.tar: is not the file that its record vouches for (sha256"),
        (lambda f: (f / f"{FIRST}.tar").unlink(), f"{FIRST}.tar: is missing; {AGAIN}"),
        (lambda f: (f / f"{FIRST}.index.parquet").unlink(), f"{FIRST}.index.parquet: is missing; --repair mends it"),
        (lambda f: change_index(f, swapped), f"{FIRST}.index.parquet: has another sample than the tar for 2 profiles"),
        (lambda f: change_index(f, lambda t: t[::-1]), f"{FIRST}.index.parquet: lists its profiles in another order"),
        (lambda f: change_index(f, lambda t: t.drop(columns="sample")), f"{FIRST}.index.parquet: has columns key"),
        (lambda f: change_table(f, "samples.parquet", swapped), "samples.parquet: is missing, damaged or older than"),
        (lambda f: (f / "samples.parquet").unlink(), "samples.parquet: is missing, damaged or older than"),
        (lambda f: (f / "genes.parquet").unlink(), f"genes.parquet: is missing, damaged or of another set; {AGAIN}"),
        (lambda f: change_table(f, "genes.parquet", lambda t: t[::-1]), "genes.parquet: is missing, damaged or of"),
        (lambda f: (f / "dataset.json").unlink(), "dataset.json: is missing, damaged or older than"),
        (
            lambda f: change_options(f, units=3),
            f"{FIRST}.record.json: doesn't say genes, units and genes_sha256 in its options; delete it and {AGAIN}",
        ),
        (
            lambda f: change_options(f, units="counts"),
            "dataset.json: {f} mixes profiles of 13 genes in counts (list {l}) and profiles of 13 genes in tpm (list",
        ),
        (lambda f: rewrite(f, units="log2"), f"{FIRST}.tar: has a description of '{FIRST}_n0' in log2, not tpm"),
        (lambda f: rewrite(f, key="other"), f"{FIRST}.tar: has a key 'other_n0' that doesn't begin with its shard"),
        (lambda f: rewrite(f, samples=[""]), f"{FIRST}.tar: has a description of '{FIRST}_n0' that is no JSON or"),
        (
            lambda f: rewrite(f, samples=["one", "two", "two", "three"]),
            "samples.parquet: {f} holds the profile of two twice, in profiles-00000 too; build into an empty folder",
        ),
    ],
)  # fmt: skip
def test_each_damage_is_reported_by_file(folder, damage, problem):
    genes = read_json(folder / "dataset.json")["genes_sha256"][:8]
    damage(folder)
    problem = problem.replace("{f}", str(folder)).replace("{l}", genes)
    found = findings(folder)
    assert any(text.startswith(problem) for text in found), found


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (b"no array", "which can't be decoded (no .npy"),
        (encode_profile(np.zeros(12, np.float32)), "which can't be decoded (it has the shape (12,), not (13,))"),
        (encode_profile(np.full(13, np.nan, np.float32)), "which holds values that are not finite"),
    ],
)
def test_arrays_are_decoded_on_request(folder, stored, problem):
    rewrite(folder, stored)
    write_digest(folder)
    assert findings(folder) == []
    (found,) = findings(folder, decode=True)
    assert found.startswith(f"{FIRST}.tar: holds '{FIRST}_n0.npy', {problem}")
    assert found.endswith(f" (and 3 more); delete the record and {AGAIN}")


def test_repair_makes_indexes_and_digest_anew_and_touches_no_tar(folder):
    sound, samples = files(folder), open_profile_set(folder).samples
    for name in (f"{FIRST}.index.parquet", "samples.parquet", "slides.parquet", "dataset.json"):
        (folder / name).unlink()
    report = check_folder(folder, repair=True)
    assert report.findings == [] and len(report.mended) == 4
    assert files(folder) == sound and findings(folder) == [] and open_profile_set(folder).samples == samples
    (folder / "genes.parquet").unlink()
    (folder / "samples.parquet").unlink()
    report = check_folder(folder, repair=True)
    assert [finding.file for finding in report.mended] == ["samples.parquet"]
    assert [finding.file for finding in report.findings] == ["genes.parquet"]


def test_tiles_in_a_folder_of_profiles_are_reported(folder, make_shards):
    tiles = Path(make_shards({"a": 2}).address)
    for path in tiles.glob("a.*"):
        shutil.copy(path, folder / path.name)
    genes = read_json(folder / "dataset.json")["genes_sha256"][:8]
    problem = f"{folder} mixes profiles of 13 genes in tpm (list {genes}) and tiles of 24 px at 0.5 µm; build each kind"
    assert any(text.startswith(f"dataset.json: {problem}") for text in findings(folder))


def test_tars_of_arrays_are_not_adopted_as_tiles(folder):
    with pytest.raises(ValueError, match="holds profiles of 13 genes .*, and only tars of tiles are adopted"):
        adopt_folder(folder)
    for path in folder.glob("*.json"):
        path.unlink()
    adopted, refused = adopt_folder(folder)
    assert adopted == [] and "has 0 images (npy, json)" in refused[0].problem
