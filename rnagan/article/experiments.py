"""The experiments in order: which command makes which table or figure, and what it leaves."""

import dataclasses
import shlex
from pathlib import Path

from rnagan.article.stages import Stage
from rnagan.config.reproduction import Settings

Words = tuple[object, ...]  # of a command line


@dataclasses.dataclass(frozen=True)
class Cohort:
    """What is reproduced on, as paths (`shards` may be a URL). `external`: profiles of another cohort, with
    `tissue_map` where it names tissues otherwise; `truth`: of a simulated cohort; `launch`: a config of accelerate's
    launcher, for trainings and scores."""

    shards: str
    cohort: Path
    expression: Path
    external: Path | None = None
    tissue_map: Path | None = None
    truth: Path | None = None
    launch: Path | None = None


def experiments(cohort: Cohort, settings: Settings, out: Path, pretraining_each: int) -> list[Stage]:
    """Stages whose products lie in `out`; `settings` are saved in `out/settings` by then. `pretraining_each`: tiles a
    training profile that SimCLR learns from."""
    sizes, config = settings.evaluation, out / "settings"
    launched: Words = ("python",)
    if cohort.launch is not None:
        launched = ("accelerate", "launch", "--quiet", "--config_file", cohort.launch)
    tiles: Words = ("--shards", cohort.shards, "--cohort", cohort.cohort)
    pairs: Words = (*tiles, "--expression", cohort.expression)
    names: Words = ("--tissue-map", cohort.tissue_map) if cohort.tissue_map else ()
    truth: Words = ("--truth", cohort.truth) if cohort.truth else ()
    modes = out / "modes"
    model: Words = ("--model", modes / "rnagan")
    evaluated: Words = (*model, *pairs, *truth, "--n", sizes.measured_tiles)

    def stage(name: str, product: str, *words: object) -> Stage:
        """A command that leaves `product` in the folder `name`."""
        return Stage(name, shlex.join(map(str, (*words, "--out", out / name))), str(out / name / product))

    def scored(mode: str, inputs: Words) -> Stage:
        words = (*launched, "tools/compute_fid.py", "--model", modes / mode, *inputs, "--extractor", sizes.extractor)
        words += ("--weights", sizes.weights) if sizes.weights else ()
        words += ("--tiles", sizes.fid_tiles, "--map-tiles", sizes.map_tiles, "--cache", out / "features")
        return stage(f"fid-{mode}", "fid.json", *words)

    vae: Words = ("tools/train_vae.py", "--expression", cohort.expression, "--config", config / "vae.yaml")
    told: Words = ("tools/evaluate_vae.py", "--vae", out / "vae", "--expression", cohort.expression)
    told += ("--external", cohort.external, *names) if cohort.external else ()
    trained: Words = ("tools/compare_modes.py", *pairs, "--vae", out / "vae", "--config", config / "gan.yaml")
    trained += ("--launch", cohort.launch) if cohort.launch else ()
    generated: Words = ("tools/generate_tiles.py", *model, "--profiles", cohort.expression)
    shown: Words = (*generated, "--split", "test", "--n", sizes.shown_tiles)
    learnt: Words = (*generated, "--split", "train", "--format", "shards", "--n", pretraining_each)
    nearest: Words = ("tools/nearest_tiles.py", *model, *pairs, "--tiles", sizes.nearest_tiles)
    simclr: Words = ("tools/pretrain_simclr.py", "--shards", out / "pretraining", "--config", config / "simclr.yaml")
    tested: Words = ("tools/finetune_classifier.py", *tiles, "--pretrained", out / "simclr")
    external: list[Stage] = []
    if cohort.external is not None:
        words: Words = ("tools/evaluate_external.py", *model, *tiles, "--profiles", cohort.external, *names)
        words += ("--n", sizes.external_tiles, "--config", config / "external.yaml")
        external = [stage("external", "result.json", "python", *words)]
    return [
        stage("vae", "model/model.json", *launched, *vae),
        stage("vae-evaluation", "summary.json", "python", *told),
        stage("modes", "modes.json", "python", *trained),
        stage("generated", "grid.png", "python", *shown),
        scored("gan", tiles),
        scored("rnagan", pairs),
        stage("nearest", "nearest.json", "python", *nearest),
        stage("faithfulness", "evaluation.json", "python", "tools/evaluate_faithfulness.py", *evaluated),
        stage("confounders", "confounders.json", "python", "tools/confounder_report.py", *evaluated),
        *external,
        stage("pretraining", "dataset.json", "python", *learnt),
        stage("simclr", "backbone.json", *launched, *simclr),
        stage("classifier", "result.json", "python", *tested, "--config", config / "classifier.yaml"),
    ]
