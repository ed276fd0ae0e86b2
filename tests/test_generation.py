import dataclasses
import runpy
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner
from PIL import Image

from rnagan import RNAGAN
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.loader import TileReader
from rnagan.expression.h5ad import open_profiles
from rnagan.generation import generate_tiles
from rnagan.io.files import read_json
from rnagan.models.tile_generator import SamplingOptions
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs

pytestmark = pytest.mark.usefixtures("no_mlflow")
TOOL = Path(__file__).parents[1] / "tools/generate_tiles.py"


def generate(trained: Path, profiles: Path, out: Path, **changes: object) -> str:
    """The last line for the user."""
    options = {"n": 3, "seed": 5, "form": "png", "split": None, "samples": []} | changes
    return generate_tiles(trained, profiles, out, **options)[-1]


def renamed(inputs: TileInputs, folder: Path, names: list[str]) -> Path:
    """The first profiles under other names."""
    adata = open_profiles(inputs.expression)[: len(names)].copy()
    adata.obs_names = names
    adata.write_h5ad(folder / "renamed.h5ad")
    return folder / "renamed.h5ad"


def test_pngs_hold_the_tiles_and_say_what_they_are(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    said = generate(trained, inputs.expression, tmp_path / "out", split="test")
    assert said == f"{tmp_path / 'out'}: 33 tiles of 11 profiles."
    model, profiles = RNAGAN.from_pretrained(trained), open_profiles(inputs.expression)
    tiles = model.generate(profiles[profiles.obs["split"] == "test"].copy(), 3, seed=5)  # in the same batches
    tiles = tiles[profiles.obs_names[profiles.obs["split"] == "test"] == "D8-lung"]
    for k in range(3):
        with Image.open(tmp_path / f"out/D8-lung/D8-lung_{k:04d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), tiles[0, k])
            assert picture.text["Synthetic"] == "true" and "not a photograph" in picture.text["Description"]
            own = {name: picture.text[f"rnagan:{name}"] for name in ("model", "profile", "seed", "mpp")}
            assert own == {"model": model.digest, "profile": "D8-lung", "seed": "5", "mpp": "1"}
    with Image.open(tmp_path / "out/grid.png") as picture:
        assert picture.size == (3 * 34 - 2, 11 * 34 - 2) and picture.text["Synthetic"] == "true"
    generated = read_json(tmp_path / "out/generated.json")
    assert (generated["model"], generated["n"], generated["seed"]) == (model.digest, 3, 5)
    assert len(generated["names"]) == 11 and generated["finished"]


@pytest.mark.parametrize("form", ["png", "shards"])
@pytest.mark.filterwarnings("ignore:.*profiles are unlike")
def test_batches_hold_tiles_of_several_profiles_which_are_those_of_each_alone(
    trained: Path, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    batches: list[list[str]] = []
    numbered = RNAGAN.generate_numbered

    def noted(model: RNAGAN, latents: np.ndarray, names: list[str], *rest: object) -> np.ndarray:
        batches.append(names)
        return numbered(model, latents, names, *rest)

    monkeypatch.setattr(RNAGAN, "generate_numbered", noted)
    generate(trained, inputs.expression, tmp_path / "out", form=form, split="test")
    assert list(map(len, batches)) == [16, 16, 1] and len(set(batches[0])) == 6  # 3 tiles of 11 profiles
    model, profiles = RNAGAN.from_pretrained(trained), open_profiles(inputs.expression)
    adata = model.encode(profiles[profiles.obs["split"] == "test"].copy())
    together = model.generate(adata, 3, seed=5)
    for latent, name, own in zip(adata.obsm["X_rnagan"], adata.obs_names, together, strict=True):
        alone = model.generate_tiles(latent, 3, 5, name)
        assert np.abs(alone.astype(int) - own).max() <= 1
        if form == "png":
            there = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out" / name).iterdir())]
            np.testing.assert_array_equal(np.stack(there), own)
    if form == "shards":
        reader = TileReader(open_dataset(tmp_path / "out"), adata.obs_names.tolist())
        assert reader.read(4, 2) == simplejpeg.encode_jpeg(together[4, 2], 95, "RGB", "444")


def test_a_profiles_pngs_appear_together(
    trained: Path, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **given: made.append(str(given["dir"])) or mkdtemp(**given))
    generate(trained, inputs.expression, tmp_path / "out", samples=["D0-lung", "D3-cortex"], n=5)
    assert len(made) == 5  # of each profile, the grid, and the record before and after: not one a tile
    assert len(list((tmp_path / "out/D0-lung").iterdir())) == 5 and not list((tmp_path / "out").glob(".tmp-*"))


def test_truncated_tiles_say_so_and_others_stay_as_they_were(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    options = {"samples": ["D0-lung"], "n": 2}
    generate(trained, inputs.expression, tmp_path / "plain", **options)
    generate(trained, inputs.expression, tmp_path / "one", **options, options=SamplingOptions(truncation=1.0))
    generate(trained, inputs.expression, tmp_path / "half", **options, options=SamplingOptions(truncation=0.5))
    tile = "D0-lung/D0-lung_0001.png"
    assert (tmp_path / "one" / tile).read_bytes() == (tmp_path / "plain" / tile).read_bytes()
    assert read_json(tmp_path / "one/generated.json")["asked"] == read_json(tmp_path / "plain/generated.json")["asked"]
    with Image.open(tmp_path / "plain" / tile) as plain, Image.open(tmp_path / "half" / tile) as half:
        assert half.text["rnagan:truncation"] == "0.5" and "rnagan:truncation" not in plain.text
        assert not np.array_equal(np.asarray(half), np.asarray(plain))
    with Image.open(tmp_path / "half/grid.png") as picture:
        assert picture.text["rnagan:truncation"] == "0.5"
    assert read_json(tmp_path / "half/generated.json")["truncation"] == 0.5
    assert "2 tiles" in generate(trained, inputs.expression, tmp_path / "half", **options)  # another request
    generate(
        trained,
        inputs.expression,
        tmp_path / "shard",
        **options,
        options=SamplingOptions(truncation=0.5),
        form="shards",
    )
    assert read_json(tmp_path / "shard/D0-lung.record.json")["source"]["truncation"] == 0.5
    with pytest.raises(ValueError, match="truncation must be above 0 and at most 1, not 1.5"):
        generate(trained, inputs.expression, tmp_path / "none", **options, options=SamplingOptions(truncation=1.5))
    assert not (tmp_path / "none").exists()


def test_second_run_generates_nothing(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    options = {"samples": ["D0-lung", "D3-cortex"], "n": 1}
    generate(trained, inputs.expression, tmp_path, **options)
    tile = tmp_path / "D3-cortex/D3-cortex_0000.png"
    before = tile.stat().st_mtime_ns
    assert generate(trained, inputs.expression, tmp_path, **options) == f"{tmp_path} is up to date."
    assert tile.stat().st_mtime_ns == before
    assert "2 tiles of 2 profiles" in generate(trained, inputs.expression, tmp_path, **options | {"seed": 6})
    assert tile.stat().st_mtime_ns != before


@pytest.mark.attack(kind=4, ends="unharmed")
@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("shards", "D0-lung.index.parquet"),
        ("shards", "D0-lung.tar"),
        ("shards", "D11-lung.record.json"),
        ("shards", "dataset.json"),
        ("png", "D0-lung/D0-lung_0002.png"),
    ],
)
def test_tiles_that_were_lost_are_generated_again(
    trained: Path, inputs: TileInputs, tmp_path: Path, form: str, name: str
) -> None:
    out, wanted = tmp_path / "out", {"samples": ["D0-lung", "D11-lung"], "form": form}
    generate(trained, inputs.expression, out, **wanted)
    before = (out / name).read_bytes()
    if form == "png":
        (out / name).unlink()
    else:
        (out / name).write_bytes(before[: len(before) // 2])
    assert "6 tiles of 2 profiles" in generate(trained, inputs.expression, out, **wanted)
    assert (out / name).read_bytes() == before
    assert "is up to date" in generate(trained, inputs.expression, out, **wanted)


def test_interrupted_request_goes_on_and_another_one_leaves_nothing_of_the_last(
    trained: Path, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    generate(trained, inputs.expression, out, samples=["D0-lung", "D3-cortex"])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RNAGAN, "generate_numbered", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        generate(trained, inputs.expression, out, samples=["D0-lung"], n=2)
    assert "6 tiles of 2" in generate(trained, inputs.expression, out, samples=["D0-lung", "D3-cortex"])
    assert "2 tiles of 1" in generate(trained, inputs.expression, out, samples=["D0-lung"], n=2)
    assert sorted(path.name for path in out.rglob("*.png")) == ["D0-lung_0000.png", "D0-lung_0001.png", "grid.png"]
    assert "1 tiles of 1" in generate(trained, inputs.expression, out, samples=["D0-lung"], n=1, form="shards")
    assert not list(out.rglob("*.png"))


def test_folder_of_others_is_refused_and_left_alone(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    before = sorted(inputs.shards.iterdir())
    with pytest.raises(ValueError, match="shards holds other files; choose another --out"):
        generate(trained, inputs.expression, inputs.shards, form="shards", samples=["D0-lung"])
    assert sorted(inputs.shards.iterdir()) == before
    (tmp_path / "generated.json").write_text(
        '{"finished": true, "asked": "x", "model": "x", "n": 1, "names": {"a": "../../precious"}}'
    )
    with pytest.raises(ValueError, match="can't name a shard"):
        generate(trained, inputs.expression, tmp_path, samples=["D0-lung"])


def test_profiles_of_other_tissues_are_left_out_and_counted(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    adata = open_profiles(inputs.expression)[:4].copy()
    adata.obs["tissue"] = ["lung", "liver", "lung", "skin"]
    adata.write_h5ad(tmp_path / "other.h5ad")
    options = {"n": 1, "seed": 0, "form": "png", "split": None}
    lines = generate_tiles(trained, tmp_path / "other.h5ad", tmp_path / "out", samples=[], **options)
    assert lines[0].startswith("Left out 2 profiles of tissues that the model has not seen")
    assert lines[1].endswith("2 tiles of 2 profiles.")


def test_model_without_profiles_generates_from_noise(small: GANConfig, inputs: TileInputs, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_gan(small.replace(mode="gan", images=16), dataclasses.replace(inputs, expression=None, vae=None), run)
    options = {"n": 2, "seed": 0, "form": "png", "split": None, "samples": []}
    assert generate_tiles(run, None, tmp_path / "out", **options) == [f"{tmp_path / 'out'}: 2 tiles of noise."]
    assert len(list((tmp_path / "out/noise").glob("*.png"))) == 2
    with pytest.raises(ValueError, match="was trained in mode gan and takes no profiles"):
        generate_tiles(run, inputs.expression, tmp_path / "out", **options)


def test_model_with_profiles_needs_them(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="generates from profiles; give --profiles"):
        generate_tiles(trained, None, tmp_path, n=1, seed=0, form="png", split=None, samples=[])


def test_shards_are_read_as_any_others(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    generate(trained, inputs.expression, tmp_path, form="shards", samples=["D0-lung", "D11-lung2"])
    shards = open_dataset(tmp_path)
    assert (shards.tile_px, shards.mpp) == (32, 1.0)
    assert shards.slides[["slide", "tiles"]].values.tolist() == [["D0-lung", 3], ["D11-lung2", 3]]
    model, profiles = RNAGAN.from_pretrained(trained), open_profiles(inputs.expression)
    tiles = model.generate(profiles[["D0-lung", "D11-lung2"]].copy(), 3, seed=5)[1]
    reader = TileReader(shards, ["D0-lung", "D11-lung2"])
    for k, tile in enumerate(tiles):
        assert reader.read(1, k) == simplejpeg.encode_jpeg(tile, 95, "RGB", "444")
    record = read_json(tmp_path / "D11-lung2.record.json")
    trust = read_json(tmp_path / "generated.json")["profiles"]["D11-lung2"]
    made = {"synthetic": True, "model": model.digest, "profile": "D11-lung2", "seed": 5}
    assert record["source"] == made | trust and set(trust) == {"far", "distance", "residual", "missing_genes"}


@pytest.mark.filterwarnings("ignore:.*profiles are unlike", "ignore:.*profiles lack")
def test_tiles_say_how_far_their_profile_is_to_be_trusted(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    adata = open_profiles(inputs.expression)[["D0-lung", "D1-lung"]].copy()
    adata.X[1] = adata.X[1][::-1] * 50  # the values of other genes
    adata.X[0, :6] = np.nan
    adata.write_h5ad(tmp_path / "x.h5ad")
    options = {"n": 1, "seed": 0, "form": "png", "split": None, "samples": []}
    lines = generate_tiles(trained, tmp_path / "x.h5ad", tmp_path / "out", **options)
    assert lines[0] == "Unlike the training profiles: D1-lung."
    trust = read_json(tmp_path / "out/generated.json")["profiles"]
    assert [trust[name]["far"] for name in ("D0-lung", "D1-lung")] == [False, True]
    assert trust["D0-lung"]["missing_genes"] == 0.2 and trust["D1-lung"]["missing_genes"] == 0
    with Image.open(tmp_path / "out/D1-lung/D1-lung_0000.png") as picture:
        assert picture.text["rnagan:far"] == "true"
        assert float(picture.text["rnagan:residual"]) == trust["D1-lung"]["residual"] > 1
        assert float(picture.text["rnagan:distance"]) == trust["D1-lung"]["distance"]


@pytest.mark.parametrize("form", ["png", "shards"])
def test_hostile_names_stay_in_the_folder(trained: Path, inputs: TileInputs, tmp_path: Path, form: str) -> None:
    names = ["../../x", "/etc/passwd", "..", "a.b/c.d", ".hidden"]
    generate(trained, renamed(inputs, tmp_path, names), tmp_path / "deep/er/out", form=form, n=1)
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "deep/er/out" not in path.parents]
    assert outside == [tmp_path / "renamed.h5ad"]
    made = {path.stem for path in (tmp_path / "deep/er/out").rglob("*.png" if form == "png" else "*.tar")}
    ending = "_0000" if form == "png" else ""
    assert made - {"grid"} == {f"{name}{ending}" for name in ("x", "passwd", "__", "c_d", "_hidden")}
    if form == "png":
        with Image.open(tmp_path / "deep/er/out/x/x_0000.png") as picture:
            assert picture.text["rnagan:profile"] == "../../x"


def test_names_that_would_collide_or_cannot_be_written_are_refused(
    trained: Path, inputs: TileInputs, tmp_path: Path
) -> None:
    for names, said in (
        (["a.1", "b", "a_1"], "2 profiles would be written as a_1; give each a name of its own"),
        (["a", "b\\c"], "can't name a shard"),
        (["a", "b" * 71], "can't name a shard"),
    ):
        with pytest.raises(ValueError, match=said):
            generate(trained, renamed(inputs, tmp_path, names), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_bad_choices(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no profile D99"):
        generate(trained, inputs.expression, tmp_path / "out", samples=["D99"])
    with pytest.raises(ValueError, match="has no profile D0-lung in split test"):
        generate(trained, inputs.expression, tmp_path / "out", samples=["D0-lung"], split="test")
    train_only = open_profiles(inputs.expression)[:4].copy()
    train_only.write_h5ad(tmp_path / "train.h5ad")
    with pytest.raises(ValueError, match="has no profile in split test of a tissue that the model knows"):
        generate(trained, tmp_path / "train.h5ad", tmp_path / "out", split="test")
    plain = anndata.AnnData(train_only.X, obs=train_only.obs[[]], var=train_only.var, uns={"units": "tpm"})
    plain.write_h5ad(tmp_path / "plain.h5ad")
    with pytest.raises(ValueError, match="has no obs column split; leave --split out"):
        generate(trained, tmp_path / "plain.h5ad", tmp_path / "out", split="test")
    assert "12 tiles of 4 profiles" in generate(trained, tmp_path / "plain.h5ad", tmp_path / "out")


def test_script(trained: Path, inputs: TileInputs, tmp_path: Path) -> None:
    main = runpy.run_path(str(TOOL))["main"]
    options = [f"--model={trained}", f"--out={tmp_path / 'out'}", "--sample=D0-lung", "--n=2"]
    done = CliRunner().invoke(main, [*options, f"--profiles={inputs.expression}"])
    assert (done.exit_code, done.output) == (0, f"{tmp_path / 'out'}: 2 tiles of 1 profiles.\n")
    bad = CliRunner().invoke(main, [*options, f"--profiles={tmp_path / 'none.h5ad'}"])
    assert bad.exit_code == 1
    assert (
        bad.output == f"Error: The profiles {tmp_path / 'none.h5ad'} don't exist; make them with "
        "rnagan build-expression.\n"
    )
