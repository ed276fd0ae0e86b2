"""Imports point one way, and heavy libraries are each imported in one place (README.md, Architecture)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each layer may import itself and those before it.
LAYERS = [
    (
        "base",
        {
            "rnagan.config",
            "rnagan.cores",
            "rnagan.files",
            "rnagan.rng",
            "rnagan.progress",
            "rnagan.tables",
            "rnagan.weights",
            "rnagan.pictures",
            "rnagan.workers",
            "rnagan.cli",
            "rnagan",
        },
    ),
    (
        "parts",
        {
            "rnagan.cohort",
            "rnagan.slides",
            "rnagan.data",
            "rnagan.expression",
            "rnagan.models",
            "rnagan.losses",
            "rnagan.simulation",
        },
    ),
    ("generation", {"rnagan.latent", "rnagan.vae", "rnagan.painting", "rnagan.pretrained", "rnagan.generation"}),
    ("evaluation", {"rnagan.evaluation", "rnagan.classification"}),
    ("training", {"rnagan.training"}),
    ("demonstration", {"rnagan.comparison", "rnagan.demo", "rnagan.doctor", "rnagan.reproduction"}),
]
ONE_PLACE = {
    "mlflow": {"rnagan/training/mlflow_run.py"},
    "webdataset": {"rnagan/data/loader.py"},
    "openslide": {"rnagan/slides/reader.py"},
    "tifffile": {"rnagan/simulation/slides.py", "rnagan/slides/native.py"},
    "dask": {"rnagan/workers.py"},
    "dask_jobqueue": {"rnagan/workers.py"},
    "h5py": {"rnagan/slides/coordinates.py", "rnagan/expression"},
    "accelerate": {"rnagan/training"},
    "umap": {"rnagan/evaluation/embedding.py"},
    "fsspec": {"rnagan/data/remote.py"},
    "lightly": {"rnagan/training/simclr_step.py"},
    "torch_fidelity": {
        "rnagan/evaluation/frechet.py",
        "rnagan/evaluation/scores.py",
        "rnagan/evaluation/extractors.py",
    },
    "efficientnet_lite_pytorch": {"rnagan/evaluation/features.py"},
}
MODULES = sorted((ROOT / "rnagan").rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def layer_of(module: str) -> int | None:
    """Number of the layer that a dotted name belongs to, by its longest known prefix; None outside of the package."""
    while module:
        for number, (_, members) in enumerate(LAYERS):
            if module in members:
                return number
        module = module.rpartition(".")[0]
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if own == "rnagan":
        return  # re-exports RNAGAN, on first use
    number = layer_of(own)
    assert own != "rnagan" and number is not None
    upward = {name for name in imports(path) if name.startswith("rnagan.") and (layer_of(name) or 0) > number}
    assert not upward, f"{own} ({LAYERS[number][0]}) imports {upward}"


def test_every_module_has_a_layer_of_its_own() -> None:
    """A new top-level module must be put into a layer on purpose, not by falling back to the package."""
    top = {"rnagan." + path.relative_to(ROOT / "rnagan").parts[0].removesuffix(".py") for path in MODULES}
    known = set().union(*(members for _, members in LAYERS))
    assert top - {"rnagan.__init__"} <= known


@pytest.mark.parametrize("library", ONE_PLACE)
def test_a_library_is_imported_in_one_place(library: str) -> None:
    users = {
        str(path.relative_to(ROOT)) for path in MODULES if any(name.split(".")[0] == library for name in imports(path))
    }
    allowed = ONE_PLACE[library]
    assert users and all(any(user.startswith(place) for place in allowed) for user in users), users


def test_nobody_imports_scripts() -> None:
    scripts = {path.stem for folder in ("tools", "shards") for path in (ROOT / folder).glob("*.py")}
    for path in MODULES:
        assert not {name.split(".")[0] for name in imports(path)} & (scripts | {"tools", "shards"}), path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_we_load_runs_code(path: Path) -> None:
    names = imports(path)
    assert not names & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    text = path.read_text()
    # Only tensors, of one known file of a package, and of a user's file: rnagan/evaluation/.
    loads = int(path.name in ("features.py", "extractors.py"))
    text = text.replace('torch.load(path, map_location="cpu", weights_only=True)', "", loads)
    assert "torch.load(" not in text and "allow_pickle=True" not in text and "yaml.load(" not in text
