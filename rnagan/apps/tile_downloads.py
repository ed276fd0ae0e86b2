"""Tiles to take away: PNGs that say in their metadata what made them, and the same beside them as JSON in a zip."""

import io
import json
import math
import re
import zipfile
from typing import Any

import numpy as np
from fastapi.responses import Response
from numpy.typing import NDArray

import rnagan
from rnagan.apps.explored_model import Answer, ExploredModel, ExploredProfile
from rnagan.apps.explorer_visits import ExplorerQuery
from rnagan.cohort.table import claim_of
from rnagan.io.files import sha256_of
from rnagan.io.images import png_bytes, synthetic_texts

_UNFIT = re.compile(r"[^A-Za-z0-9_+-]+")


def provenance(explored: ExploredModel, shown: ExploredProfile, asked: ExplorerQuery, answer: Answer) -> dict[str, Any]:
    """What made the tiles of an answer, as JSON."""
    model = explored.model
    slider = explored.slider(asked.slider) if asked.slider and asked.step else None
    claim = claim_of(model.split_by)
    moved = 0 if slider is None else int((~np.isnan(shown.values[slider.columns])).sum())
    return {
        "synthetic": True,
        "rnagan": rnagan.__version__,
        "model": model.digest,
        "mpp": model.mpp,
        "profile": shown.name,
        "profiles_file": None if shown.uploaded else explored.profiles.digest,
        "uploaded": shown.uploaded,
        "profile_values": sha256_of(shown.values.astype(float).round(6).tolist()),
        "tissue": shown.tissue or None,
        "moved": None if slider is None else slider.name,
        "moved_genes": moved,
        "moved_by": 0.0 if slider is None else asked.step,
        "unit": None if slider is None else slider.unit,
        "seed": asked.seed,
        "sampling": model.sampling,
        "far": answer.far,
        "distance": _number(round(answer.distance, 4)),
        "residual": _number(round(answer.residual, 4)),
        "missing_genes": round(answer.missing, 4),
        "measures": {name: _number(value) for name, value in answer.measures.items()},
        **({} if claim is None else claim.as_json()),
    }


def _number(value: float) -> float | None:
    """As JSON has it: None where it is unknown."""
    return value if math.isfinite(value) else None


def as_png(tile: NDArray[np.uint8], made_of: dict[str, Any], number: int) -> Response:
    """Tile `number` (H, W, 3) as a file."""
    return _file(_png(tile, made_of, number), "image/png", f"{_file_name(made_of)}_{number}.png")


def as_zip(tiles: NDArray[np.uint8], made_of: dict[str, Any]) -> Response:
    """Tiles (n, H, W, 3) with provenance.json, as a zip of stored files."""
    packed, name = io.BytesIO(), _file_name(made_of)
    text = json.dumps(made_of, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with zipfile.ZipFile(packed, "w") as archive:
        for number, tile in enumerate(tiles, 1):
            archive.writestr(zipfile.ZipInfo(f"{name}_{number}.png"), _png(tile, made_of, number))
        archive.writestr(zipfile.ZipInfo("provenance.json"), text)
    return _file(packed.getvalue(), "application/zip", f"{name}.zip")


def _png(tile: NDArray[np.uint8], made_of: dict[str, Any], number: int) -> bytes:
    texts = synthetic_texts(made_of["model"], made_of["profile"], made_of["seed"], made_of["mpp"])
    texts |= {"rnagan:tile": str(number - 1), "rnagan:far": str(made_of["far"]).lower()}
    if made_of["moved"] is not None:
        texts["rnagan:moved"] = f"{made_of['moved']} {made_of['moved_by']:+g} {made_of['unit']}"
    return png_bytes(tile, texts)


def _file_name(made_of: dict[str, Any]) -> str:
    """Of letters that every disk and header takes; what else it says is in the file."""
    moved = "" if made_of["moved"] is None else f"_{made_of['moved'][:30]}_{made_of['moved_by']:+g}"
    return _UNFIT.sub("-", f"{made_of['profile'][:60]}{moved}_seed{made_of['seed']}").strip("-") or "tiles"


def _file(data: bytes, kind: str, name: str) -> Response:
    return Response(data, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
