"""A model as a folder that can be given away: its files, and a model card that says what it is and what it isn't."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import yaml

from rnagan.api import ModelRecord, model_folder, read_model_record
from rnagan.cohort.table import claim_of
from rnagan.config.base import load_config
from rnagan.config.families import CONFIGS
from rnagan.io.files import atomic_path, sha256_of_file, write_text
from rnagan.io.hub import push
from rnagan.reports.model_card import Figures, model_card
from rnagan.tracking.evaluations import EVALUATION_RECORD, EvaluationRecord, read_evaluation

CARD, MODEL = "README.md", "model"
BESIDE = ("null/", "train/")  # figures that stand beside the model's own
RISK = ("nearest/auc", "density/auc", "critic/auc", "profile/auc")  # of the privacy audit


@dataclasses.dataclass(frozen=True)
class Card:
    """What a model can't say of itself: `name`, `licence` (an SPDX id), `data` (where it is from, and under which
    terms), `use` (what it is meant for)."""

    name: str
    licence: str
    data: str
    use: str = "Research on gene expression and the look of tissue. Generated tiles are not evidence about a patient."


def export_model(
    model: Path,
    out: Path,
    card: Card,
    evaluations: tuple[Path, ...] = (),
    most_auc: float | None = None,
    push_to: str | None = None,
) -> list[str]:
    """Write `out/model`, the files of a trained model, and `out/README.md`, its model card, by one rename; returns
    lines for the terminal.

    `RNAGAN.from_pretrained(out)` opens it; pushed to a hub as `push_to`, OWNER/NAME opens it anywhere.
    `evaluations`: folders of evaluations of this model, whose figures the card gives. `most_auc`: refuse where the
    privacy audit can tell members with an AUC whose interval lies above; there must be an audit then. Raises
    `ValueError` with the reason, and where `out` holds something else.
    """
    folder = model_folder(model)
    record = read_model_record(folder)
    if record is None:
        raise ValueError(f"{folder} holds no generator; give a run of rnagan train-rnagan or its model folder.")
    figures = [_figures(path, record) for path in evaluations]
    if most_auc is not None:
        _refuse_risky(figures, most_auc)
    if out.exists() and ({path.name for path in out.iterdir()} != {CARD, MODEL} or not (out / CARD).is_file()):
        raise ValueError(f"{out} exists and holds no exported model; choose another --out.")
    config = load_config(CONFIGS[record.get("family", "gan")], folder / "config.yaml")
    front = {"license": card.licence, "library_name": "rnagan", "tags": ["histopathology", "gene-expression", "rnagan"]}
    text = model_card(
        front=yaml.safe_dump(front, sort_keys=False),
        card=dataclasses.asdict(card),
        record=dict(record),
        settings={name: getattr(config, name) for name in ("mode", "resolution")},
        donors=len(record["train_donors"]),
        claim=claim_of(record.get("split_by", "donor")),
        figures=figures,
    )
    with atomic_path(out) as temporary:
        shutil.copytree(folder, temporary / MODEL)
        write_text(temporary / CARD, text)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    lines = [f"{out}: {size:,.1f} MB, model.json {sha256_of_file(out / MODEL / 'model.json')[:12]}; read {out / CARD}."]
    if not any(own["kind"] == "privacy" for own in figures):
        lines.append("No privacy audit is among --evaluations: rnagan audit-privacy asks what the model gives away.")
    if push_to is not None:
        lines.append(f"Pushed to {push(out, push_to)}.")
    return lines


def _figures(path: Path, record: ModelRecord) -> Figures:
    """The scores of an evaluation's folder."""
    source = path / EVALUATION_RECORD if path.is_dir() else path
    if not source.is_file():
        raise ValueError(f"{path} holds no evaluation ({EVALUATION_RECORD}).")
    found: EvaluationRecord = read_evaluation(source)
    if found["model"] != record["digest"]:
        raise ValueError(
            f"{path} is an evaluation of another model ({found['model'][:12]}, not {record['digest'][:12]})."
        )
    scores: dict[str, Any] = {
        name: own for name, own in found["scores"].items() if own["value"] is not None and not name.startswith(BESIDE)
    }
    return Figures(kind=found["kind"], protocol=found["protocol_digest"], scores=scores)


def _refuse_risky(figures: list[Figures], most: float) -> None:
    audits = [own for own in figures if own["kind"] == "privacy"]
    if not audits:
        raise ValueError("--most-auc needs a privacy audit among --evaluations: run rnagan audit-privacy first.")
    for own in audits:
        for name in RISK:
            score = own["scores"].get(name)
            if score is not None and (score.get("low") or score["value"]) > most:
                raise ValueError(
                    f"The privacy audit finds members with an AUC of {score['value']:.3f} ({name}), above "
                    f"{most:.3f}: the model is not exported."
                )
