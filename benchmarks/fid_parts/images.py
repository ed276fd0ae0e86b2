"""What features are extracted from, made once into a cache folder: tiles as shards, the same as files, and weights."""

import itertools
from pathlib import Path
from unittest import mock

import numpy as np
import simplejpeg
import torch
from loader_parts.tiles import QUALITY, TILE_PX, write_shard
from shared import texture
from torch_fidelity import feature_extractor_inceptionv3 as inception

from rnagan.data.index import open_dataset
from rnagan.data.reader import TileReader
from rnagan.data.set_digest import write_digest
from rnagan.io.files import atomic_path

SLIDES = 4


def make_shards(cache: Path, data: Path, across: int) -> tuple[Path, str]:
    """Shards of SLIDES × across² tiles, and what they show."""
    kind = "real" if texture.has_real(data) else "simulated"
    shards = cache.resolve() / f"fid-{kind}-{across}" / "shards"
    if not shards.is_dir():
        with atomic_path(shards) as temporary:
            random = np.random.default_rng(0)
            for slide in range(SLIDES):
                picture = texture.generate(across * TILE_PX, across * TILE_PX, 0.0, data, random)
                squares = picture.reshape(across, TILE_PX, across, TILE_PX, 3).swapaxes(1, 2)
                cut = squares.reshape(-1, TILE_PX, TILE_PX, 3)
                jpegs = (simplejpeg.encode_jpeg(np.ascontiguousarray(tile), QUALITY, "RGB", "444") for tile in cut)
                write_shard(temporary, f"slide-{slide}", enumerate(jpegs, slide * across**2))
            write_digest(temporary)
    return shards, f"{kind} tiles"


def make_folder(shards: Path, count: int) -> Path:
    """The first `count` tiles as files, whose bytes are those in the shards."""
    folder = shards.with_name(f"files-{count}")
    if not folder.is_dir():
        opened = open_dataset(shards)
        reader = TileReader(opened, opened.slides["slide"].tolist())
        tiles_a_slide = int(opened.slides["tiles"].iloc[0])
        with atomic_path(folder) as temporary:
            temporary.mkdir(exist_ok=True)
            for number in range(count):
                jpeg = reader.read(*divmod(number, tiles_a_slide))
                (temporary / f"{number:06d}.jpg").write_bytes(jpeg)
    return folder


def make_weights(cache: Path) -> Path:
    """A file of torch-fidelity's form of FID's Inception-v3, with weights drawn at random that keep its scale."""
    path = cache.resolve() / "fid-random-inception.pth"
    if not path.is_file():
        torch.manual_seed(0)
        with (
            mock.patch.object(inception.FeatureExtractorInceptionV3, "load_state_dict"),
            mock.patch.object(inception, "load_state_dict_from_url"),
        ):
            network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        with atomic_path(path) as temporary:
            torch.save(network.state_dict(), temporary)
    return path


def disagreement(features: dict[str, Path], of: str) -> dict[str, float]:
    """Of each contender's features of the first batch from those of one: mean distance, over that between tiles."""
    kept = {name: np.load(path) for name, path in features.items()}
    ours = kept.pop(of)
    apart = np.mean([np.linalg.norm(a - b) for a, b in itertools.pairwise(ours)])
    return {name: float(np.linalg.norm(theirs - ours, axis=1).mean() / apart) for name, theirs in kept.items()}
