"""The experiments in order: which command makes which table or figure, and what it leaves."""

import dataclasses
import shlex
from pathlib import Path

from rnagan.article.stages import Stage, starting
from rnagan.config.reproduction import Settings

SAVED = "settings"  # folder of the settings that the commands read
Words = tuple[object, ...]  # of a command line


@dataclasses.dataclass(frozen=True)
class Cohort:
    """What is reproduced on, as paths (`shards` may be a URL). `external`: profiles of another cohort, with
    `tissue_map` where it names tissues otherwise; `truth`: of a simulated cohort; `launch`: a config of accelerate's
    launcher, for trainings and scores; `scores`: what readers said of tiles, the article's own where there is none."""

    shards: str
    cohort: Path
    expression: Path
    external: Path | None = None
    tissue_map: Path | None = None
    truth: Path | None = None
    launch: Path | None = None
    scores: Path | None = None


def experiments(cohort: Cohort, settings: Settings, out: Path, pretraining_each: int) -> list[Stage]:
    """Stages whose products lie in `out`; `settings` are in `out/SAVED` by then. `pretraining_each`: tiles a
    training profile that SimCLR learns from."""
    sizes, config = settings.evaluation, out / SAVED
    tiles: Words = ("--shards", cohort.shards, "--cohort", cohort.cohort)
    expression: Words = ("--expression", cohort.expression)
    pairs: Words = (*tiles, *expression)
    names: Words = ("--tissue-map", cohort.tissue_map) if cohort.tissue_map else ()
    truth: Words = ("--truth", cohort.truth) if cohort.truth else ()
    other: Words = ("--external", cohort.external, *names) if cohort.external else ()
    launch: Words = ("--launch", cohort.launch) if cohort.launch else ()
    vae: Words = ("--vae", out / "vae")
    model: Words = ("--model", out / "modes/rnagan")
    evaluated: Words = (*model, *pairs, *truth, "--n", sizes.measured_tiles)
    profiles: Words = (*model, "--profiles", cohort.expression)
    pretraining: Words = ("--shards", out / "pretraining")
    pretrained: Words = ("--pretrained", out / "simclr")
    learnt: Words = (*profiles, "--split", "train", "--format", "shards", "--n", pretraining_each)

    def stage(
        name: str, product: str, command: str, *words: object, section: str = "", launched: bool = False
    ) -> Stage:
        """`rnagan COMMAND` with these words, leaving `product` in the folder `name`. `section`: its saved settings;
        `launched`: by accelerate where the cohort has a launch config."""
        line: Words = (*starting(command, cohort.launch if launched else None), *words)
        line += ("--config", config / f"{section}.yaml") if section else ()
        return Stage(name, shlex.join(map(str, (*line, "--out", out / name))), str(out / name / product))

    def scored(mode: str, inputs: Words) -> Stage:
        words: Words = ("--model", out / "modes" / mode, *inputs, "--extractor", sizes.extractor)
        words += ("--weights", sizes.weights) if sizes.weights else ()
        words += ("--tiles", sizes.fid_tiles, "--map-tiles", sizes.map_tiles, "--cache", out / "features")
        return stage(f"fid-{mode}", "fid.json", "compute-fid", *words, launched=True)

    external: list[Stage] = []
    if cohort.external is not None:
        words: Words = (*model, *tiles, "--profiles", cohort.external, *names, "--n", sizes.external_tiles)
        external = [stage("external", "result.json", "evaluate-external", *words, section="external")]
    answers: Words = ("--scores", cohort.scores) if cohort.scores else ("--article",)
    shown: Words = ("--source", f"real={cohort.shards}", "--source", f"GAN={out / 'modes/gan'}")
    shown += ("--source", f"RNA-GAN={out / 'modes/rnagan'}", "--cohort", cohort.cohort, "--profiles", cohort.expression)
    shown += ("--each", sizes.reader_tiles, "--tile-px", settings.gan.resolution, "--repeats", 0, "--prepare-only")
    return [
        stage("vae", "model/model.json", "train-vae", *expression, section="vae", launched=True),
        stage("vae-evaluation", "summary.json", "evaluate-vae", *vae, *expression, *other),
        stage("modes", "modes.json", "compare-modes", *pairs, *vae, *launch, section="gan"),
        stage("generated", "grid.png", "generate-tiles", *profiles, "--split", "test", "--n", sizes.shown_tiles),
        scored("gan", tiles),
        scored("rnagan", pairs),
        stage("nearest", "nearest.json", "nearest-tiles", *model, *pairs, "--tiles", sizes.nearest_tiles),
        stage("faithfulness", "evaluation.json", "evaluate-faithfulness", *evaluated),
        stage("confounders", "confounders.json", "confounder-report", *evaluated),
        *external,
        stage("pretraining", "dataset.json", "generate-tiles", *learnt),
        stage("simclr", "backbone.json", "pretrain-simclr", *pretraining, section="simclr", launched=True),
        stage("classifier", "result.json", "finetune-classifier", *tiles, *pretrained, section="classifier"),
        stage("reader-form", "form.html", "serve-reader-study", *shown),
        stage("reader-study", "result.json", "analyse-reader-study", *answers),
    ]
