"""Imports point one way, and heavy libraries are each imported in one place (README.md, Architecture)."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each room may import itself and those before it.
ROOMS = (
    "io",
    "runtime",
    "config",
    "cohort",
    "expression",
    "data",
    "slides",
    "spatial",
    "losses",
    "models",
    "simulation",
    "api",
    "latent",
    "generation",
    "tracking",
    "reports",
    "evaluation",
    "classification",
    "training",
    "privacy",
    "export",
    "comparison",
    "doctor",
    "article",
    "apps",
    "commands",
)
ONE_PLACE = {
    "mlflow": {"rnagan/tracking/mlflow_"},
    "webdataset": {"rnagan/data/loader.py"},
    "openslide": {"rnagan/cohort/slide_files.py", "rnagan/slides/slide.py"},
    "tifffile": {
        "rnagan/simulation/svs.py",
        "rnagan/slides/jpeg_tiles.py",
        "rnagan/slides/plain_images.py",
        "rnagan/slides/tiff_pages.py",
    },
    "dask": {"rnagan/runtime/workers.py"},
    "dask_jobqueue": {"rnagan/runtime/workers.py"},
    "h5py": {
        "rnagan/io/hdf5_checks.py",
        "rnagan/io/matrix_archs4.py",
        "rnagan/io/tenx_matrix.py",
        "rnagan/slides/coordinates.py",
        "rnagan/expression",
    },
    "accelerate": {"rnagan/training"},
    "huggingface_hub": {"rnagan/io/hub.py"},
    "diffusers": {"rnagan/models/flow.py"},
    "umap": {"rnagan/evaluation/feature_map.py"},
    "fsspec": {"rnagan/data/remote.py"},
    "lightly": {"rnagan/training/simclr/step.py"},
    "torch_fidelity": {
        "rnagan/evaluation/tile_scores.py",
        "rnagan/evaluation/features.py",
    },
    "krippendorff": {"rnagan/apps/agreement.py"},
    "efficientnet_lite_pytorch": {"rnagan/models/backbones.py"},
}
MODULES = sorted((ROOT / "rnagan").rglob("*.py"))


@functools.cache
def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@functools.cache
def top_imports(path: Path) -> set[str]:
    """Names that a module imports when it is imported itself."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The room of a dotted name `rnagan.ROOM…`."""
    return module.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = module_name(path)
    if own in ("rnagan", "rnagan.__main__"):
        return  # re-exports RNAGAN, on first use; starts the commands
    later = ROOMS[ROOMS.index(room_of(own)) + 1 :]
    upward = {name for name in imports(path) if name.startswith("rnagan.") and room_of(name) in later}
    assert not upward, f"{own} imports {upward}, from a later room"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports at the top of modules; one inside of a function is for weight, never to break a circle."""
    names = {module_name(path): path for path in MODULES}
    wanted = {name: {other for other in top_imports(path) if other in names} for name, path in names.items()}
    for room, inside in {
        room: [name for name in names if name.count(".") and room_of(name) == room] for room in ROOMS
    }.items():
        order = graphlib.TopologicalSorter({name: wanted[name] & set(inside) - {name} for name in inside})
        try:
            order.prepare()
        except graphlib.CycleError as error:
            pytest.fail(f"{room}: {' -> '.join(error.args[1])}")


def test_every_module_has_a_room() -> None:
    top = {path.relative_to(ROOT / "rnagan").parts[0].removesuffix(".py") for path in MODULES}
    assert top - {"__init__", "__main__"} == set(ROOMS)


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
    # Only tensors: of known files of packages (rnagan/models/backbones.py), and of a user's file.
    loads = {"rnagan/models/backbones.py": 1, "rnagan/evaluation/features.py": 1}.get(str(path.relative_to(ROOT)), 0)
    text = text.replace('torch.load(path, map_location="cpu", weights_only=True)', "", loads)
    assert "torch.load(" not in text and "allow_pickle=True" not in text and "yaml.load(" not in text
