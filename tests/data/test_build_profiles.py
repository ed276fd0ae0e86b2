import contextlib
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from rnagan.data import build_profiles as module
from rnagan.data.build_profiles import build_profiles
from rnagan.data.index import open_dataset
from rnagan.data.manifest import write_record
from rnagan.data.profile_layout import deal
from rnagan.data.profile_shards import open_profile_set
from rnagan.expression.h5ad import Expression
from rnagan.io.files import read_json
from tests import programs
from tests.data.profiles import GENES, bits, files, make_expression, make_set, write


def tars(folder):
    return {name: data for name, data in files(folder).items() if name.endswith(".tar")}


def stored(folder):
    """Bits of every profile by its sample, as webdataset reads them."""
    found = {}
    for name in sorted(tars(folder)):
        for sample in wds.WebDataset(f"file:{folder}/{name}", shardshuffle=False).decode():
            assert sample["json"]["sample"] not in found and sample["npy"].dtype == np.float32
            assert "." not in sample["__key__"] and sample["json"]["units"] == "tpm"
            found[sample["json"]["sample"]] = bits(sample["npy"]).tolist()
    return found


def expected(*expressions):
    rows = [pair for e in expressions for pair in zip(e.obs.index, bits(e.values).tolist(), strict=True)]
    return dict(rows)


def test_a_plain_webdataset_reads_every_profile_bit_by_bit(tmp_path):
    expression, profiles = make_set(tmp_path, 21)
    assert stored(tmp_path / "profiles") == expected(expression)
    dealt = deal(expression.obs.index.tolist(), 0, 8)
    assert profiles.samples == [expression.obs.index[row] for rows in dealt for row in rows]
    assert profiles.slides[["slide", "status", "tiles"]].values.tolist() == [
        ["profiles-00000", "done", 8],
        ["profiles-00001", "done", 8],
        ["profiles-00002", "done", 5],
    ]
    assert (profiles.genes, profiles.units, profiles.symbols[3]) == (GENES, "tpm", "G3")
    index = profiles.index("profiles-00001")
    assert list(index) == ["key", "offset", "size", "crc32", "sample"] and index["key"][2] == "profiles-00001_n2"
    dataset = read_json(tmp_path / "profiles" / "dataset.json")
    wanted = {"format": "rnagan-shards", "version": 1, "kind": "profiles", "genes": 13, "units": "tpm", "slides": 3}
    assert wanted.items() <= dataset.items() and dataset["tiles"] == 21


def test_equal_profiles_give_equal_bytes_whatever_their_order(tmp_path):
    expression, _ = make_set(tmp_path, 21)
    before = files(tmp_path / "profiles")
    (line,) = build_profiles(tmp_path / "e21.h5ad", tmp_path / "profiles", 8)
    assert line.endswith("21 profiles of 13 genes in tpm, 3 shards (up to date).")
    assert files(tmp_path / "profiles") == before
    turned = Expression(expression.values[::-1].copy(), expression.obs[::-1], GENES, expression.symbols, "tpm")
    (tmp_path / "turned").mkdir()
    build_profiles(write(tmp_path / "turned", "e21.h5ad", turned), tmp_path / "again", 8)
    assert files(tmp_path / "again") == before
    build_profiles(tmp_path / "e21.h5ad", tmp_path / "otherwise", 8, seed=1)
    assert stored(tmp_path / "otherwise") == expected(expression)
    assert tars(tmp_path / "otherwise").keys() == tars(tmp_path / "again").keys()
    assert tars(tmp_path / "otherwise") != tars(tmp_path / "again")


def test_further_profiles_add_shards_and_touch_none(tmp_path):
    first, _ = make_set(tmp_path, 21)
    before, out = files(tmp_path / "profiles"), tmp_path / "profiles"
    more = make_expression(20, first=11)  # ten of them are there already
    path = write(tmp_path, "more.h5ad", more)
    assert "31 profiles" in build_profiles(path, out, 8)[0]
    after = files(out)
    tables = {"dataset.json", "slides.parquet", "samples.parquet"}
    assert {name for name, data in before.items() if after[name] != data} == tables
    assert sorted(after.keys() - before.keys())[2::3] == ["profiles-00003.tar", "profiles-00004.tar"]
    assert stored(out) == expected(first, more)
    assert open_profile_set(out).digest != json.loads(before["dataset.json"])["digest"]
    for again in (tmp_path / "e21.h5ad", path):
        assert "(up to date)" in build_profiles(again, out, 8)[0] and files(out) == after


def test_a_shard_that_was_lost_is_made_again_as_it_was(tmp_path):
    make_set(tmp_path, 21)
    out = tmp_path / "profiles"
    build_profiles(write(tmp_path, "more.h5ad", make_expression(20, first=11)), out, 8)
    before = files(out)
    for expression, shard in (("e21", 1), ("more", 4)):
        (out / f"profiles-{shard:05d}.record.json").unlink()
        assert "(1 shards made)" in build_profiles(tmp_path / f"{expression}.h5ad", out, 8)[0]
        assert files(out) == before
        (out / f"profiles-{shard:05d}.tar").write_bytes(before["profiles-00000.tar"][:1000])
        other = "more" if expression == "e21" else "e21"
        with pytest.raises(
            ValueError, match=rf"profiles-{shard:05d}.tar has 1,000 bytes, and its record says [\d,]+; mend it"
        ):
            build_profiles(tmp_path / f"{other}.h5ad", out, 8)
        build_profiles(tmp_path / f"{expression}.h5ad", out, 8)
        assert files(out) == before
    (out / "genes.parquet").unlink()
    build_profiles(tmp_path / "more.h5ad", out, 8)
    assert files(out)["genes.parquet"] == before["genes.parquet"]


KILLED = """
import os, signal, sys
from pathlib import Path
from rnagan.data import build_profiles as module
shards, write_shard = 0, module._write_shard
def killed(*words):
    global shards
    if shards == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    shards += 1
    write_shard(*words)
module._write_shard = killed
module.build_profiles(Path(sys.argv[1]), Path(sys.argv[2]), 4)
"""


@pytest.mark.slow
@pytest.mark.guard
def test_a_build_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    make_set(tmp_path, 21, per_shard=4)
    out = tmp_path / "killed"
    (tmp_path / "killed.py").write_text(KILLED)
    done = programs.run(tmp_path / "killed.py", tmp_path / "e21.h5ad", out)
    assert done.returncode == -signal.SIGKILL and len(tars(out)) == 2
    with pytest.raises(FileNotFoundError, match="no finished folder of shards"):
        open_profile_set(out)
    assert "(4 shards made)" in build_profiles(tmp_path / "e21.h5ad", out, 4)[0]
    assert files(out) == files(tmp_path / "profiles")


def test_begun_with_one_file_and_gone_on_with_another_holds_each_profile_once(tmp_path, monkeypatch):
    out, write_shard, made = tmp_path / "out", module._write_shard, []

    def fails_at_third(*words):
        if len(made) == 2:
            raise OSError("disk")
        made.append(write_shard(*words))

    first, second = make_expression(21), make_expression(30)
    one, two = write(tmp_path, "one.h5ad", first), write(tmp_path, "two.h5ad", second)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_shard", fails_at_third)
        with pytest.raises(OSError, match="disk"):
            build_profiles(one, out, 4)
    build_profiles(two, out, 4)
    assert stored(out) == expected(second)
    after = files(out)
    assert "(up to date)" in build_profiles(one, out, 4)[0] and files(out) == after
    assert "(up to date)" in build_profiles(two, out, 4)[0] and files(out) == after
    assert len(open_profile_set(out).samples) == 30


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_built_in_whatever_order_each_profile_is_there_once(tmp_path, monkeypatch, seed):
    """Files overlap, builds break off, records are lost: no profile comes twice, and no shard that stands changes."""
    random, out, write_shard = np.random.default_rng(seed), tmp_path / "out", module._write_shard
    expressions = [make_expression(count, first) for first, count in ((0, 9), (5, 12), (14, 3), (0, 21))]
    paths = [write(tmp_path, f"{n}.h5ad", expression) for n, expression in enumerate(expressions)]
    for _ in range(8):
        before, number = tars(out) if out.exists() else {}, int(random.integers(4))
        lost = f"profiles-{random.integers(6):05d}.record.json"
        if random.random() < 0.3 and (out / lost).exists():
            (out / lost).unlink()
            del before[lost.replace("record.json", "tar")]
        left = int(random.integers(4)) if random.random() < 0.5 else 100

        def breaks_off(*words, made=[], most=left):  # noqa: B006
            if len(made) == most:
                raise OSError("disk")
            made.append(write_shard(*words))

        monkeypatch.setattr(module, "_write_shard", breaks_off)
        with contextlib.suppress(OSError):
            build_profiles(paths[number], out, 3)
        assert before.items() <= tars(out).items()
    monkeypatch.setattr(module, "_write_shard", write_shard)
    for path in paths:
        build_profiles(path, out, 3)
    assert len(open_profile_set(out).samples) == 21
    for name in tars(out).keys() - {f"{name}.tar" for name in open_profile_set(out).shard_names}:
        (out / name).unlink()  # of a record that was lost
    assert stored(out) == expected(*expressions)


def change(expression, **changes):
    return Expression(**{name: getattr(expression, name) for name in expression.__dataclass_fields__} | changes)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_profiles_that_do_not_fit_are_refused_in_a_sentence(tmp_path):
    expression, _ = make_set(tmp_path, 9)
    before, out = files(tmp_path / "profiles"), tmp_path / "profiles"
    twice = expression.obs.rename(index={expression.obs.index[1]: expression.obs.index[0]})
    values = expression.values.copy()
    values[2, 3] = 5
    values[4, 0] = 0.0 if np.signbit(values[4, 0]) else -0.0
    turned = [*GENES[1:], GENES[0]]
    for changed, settings, problem in (
        (
            change(expression, units="counts"),
            {},
            "in counts .* in tpm .* genes, their order and units must be the same",
        ),
        (change(expression, genes=turned), {}, "genes, their order and units must be the same; choose another --out"),
        (make_expression(9, genes=GENES[:7]), {}, "holds profiles of 7 genes"),
        (change(expression, obs=twice), {}, "has the profile GTEX-.* more than once; give each a name of its own"),
        (change(expression, values=values), {}, r"2 profiles of .*e.h5ad \(GTEX.*\) are in .* with other values"),
        (expression, {"seed": 3}, "was made with --seed 0, not 3; give that"),
        (expression, {"per_shard": 9}, "was made with --per-shard 8, not 9; give that"),
    ):
        path = write(tmp_path, "e.h5ad", changed)
        with pytest.raises(ValueError, match=problem):
            build_profiles(path, out, **({"per_shard": 8} | settings))
        assert files(out) == before
    assert "(up to date)" in build_profiles(write(tmp_path, "e.h5ad", change(expression, symbols=[""] * 13)), out, 8)[0]


def test_tiles_and_profiles_are_not_taken_for_each_other(make_shards, tmp_path):
    tiles, (_, profiles) = make_shards({"a": 2}), make_set(tmp_path, 3)
    with pytest.raises(ValueError, match=r"holds tiles of 24 px at 0.5 µm; choose another --out for profiles"):
        build_profiles(tmp_path / "e3.h5ad", Path(tiles.address))
    with pytest.raises(ValueError, match=r"holds profiles of 13 genes in tpm .*; a folder of tiles is wanted"):
        open_dataset(profiles.address)
    with pytest.raises(ValueError, match=r"holds tiles of 24 px at 0.5 µm; a folder of profiles is wanted"):
        open_profile_set(tiles.address)
    with pytest.raises(FileNotFoundError, match=r"no dataset.json\); make one with rnagan build-profiles"):
        open_profile_set(tmp_path)


def test_records_that_say_nothing_of_their_dealing_are_refused(tmp_path):
    make_set(tmp_path, 3)
    path = tmp_path / "profiles" / "profiles-00000.record.json"
    write_record(path.parent, read_json(path) | {"source": {}})
    with pytest.raises(ValueError, match="record.json doesn't say with which profiles its shard was dealt; delete it"):
        build_profiles(tmp_path / "e3.h5ad", tmp_path / "profiles", 8)


def test_the_script_builds_and_says_so(tmp_path):
    path = write(tmp_path, "e.h5ad", make_expression(5))
    done = programs.run("rnagan", "build-profiles", "--expression", path, "--out", tmp_path / "p")
    assert done.returncode == 0 and "5 profiles of 13 genes in tpm, 1 shards (1 shards made)." in done.stdout
    assert len(open_profile_set(tmp_path / "p").samples) == 5
