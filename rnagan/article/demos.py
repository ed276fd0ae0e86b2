"""What `make demo`, `make demo-real` and `make demo-unpaired` run: commands in order, and a report of it."""

import dataclasses
import shlex
from pathlib import Path

from rnagan.article.stages import Stage, run_stages
from rnagan.io.files import read_json
from rnagan.reports.pages import write_report
from rnagan.runtime.progress import say
from rnagan.tracking.run_folder import read_metrics


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a demonstration is: `full` for people, `short` for tests, `toy` for a look at the files.

    `slides`: how the simulated ones are rendered and cut; worker processes take longer to start than 60 slides do.
    """

    simulation: str
    slides: str
    vae: str
    images: int  # shown to the critic, of the simulated cohort
    spot_images: int  # of the spots
    unpaired_images: int  # of the tiles of lung and colon
    tiles_per_profile: int


SCALES = {
    "full": Scale("", "", "--epochs 150", 24_000, 20_000, 64_000, 12),
    "short": Scale("--donors 700 --slide-donors 120", "", "--epochs 150", 6_000, 4_000, 8_000, 4),
    "toy": Scale(
        "--donors 60 --slide-donors 30 --genes 60 --tiles-across 3 --tiles-down 3",
        "--processes 1",
        "--epochs 4",
        64,
        64,
        64,
        2,
    ),
}
HER2ST = "spatial/her2st"  # in the folder of real data
# Small networks, and no DiffAugment: minutes on two cores are too short for a critic to learn the tiles by heart.
GAN = (
    "--resolution 64 --generator-width 24 --critic-width 24 --diffaugment none "
    "--log-every 1600 --sample-every 8000 --checkpoint-every 8000"
)


def simulated(out: Path, data: Path, scale: Scale) -> list[Stage]:
    """The demonstration on a simulated cohort: runs in `out`, cohort and shards in `data`."""
    runs, work = _word(out), _word(data)
    cohort, table = f"{work}/cohort", f"{work}/cohort.csv"
    return [
        Stage("cohort", _joined(f"rnagan simulate-cohort --out {cohort}", scale.simulation, scale.slides)),
        Stage(
            "splits",
            f"rnagan build-cohort --samples {cohort}/sample_attributes.tsv --slides {cohort}/slides.csv --out {table}",
        ),
        Stage(
            "tiles",
            _joined(
                f"rnagan build-tiles --slides {cohort}/slides --out {work}/tiles --tile-px 64 --mpp 1.0", scale.slides
            ),
        ),
        *_train_and_generate(
            runs,
            work,
            scale,
            expression=f"{cohort}/expression.gct.gz",
            vae=f"--preset zscore --hidden 512,256 --latent 64 --lr 1e-3 --threads 1 {scale.vae}",
            gan=f"{GAN} --images {scale.images} --batch-size 8 --condition-units 10",
            evaluation=f"--truth {cohort}/truth.csv",
        ),
    ]


def spots(out: Path, data: Path, source: Path, scale: Scale) -> list[Stage]:
    """The demonstration on real spots, whose tile and expression belong together: of `source`, a folder laid out as
    docs/walkthrough.md describes, the set her2st. The sections of the test split are generated and compared."""
    runs, work, given = _word(out), _word(data), _word(source / HER2ST)
    tiles = f"{given}/tiles.csv"
    table, profiles = f"{work}/cohort.csv", f"{work}/expression.h5ad"
    columns = "--section-column sample --profile-column spot"
    joined = f"--shards {work}/tiles --cohort {table} --expression {profiles}"
    return [
        Stage(
            "tiles",  # 146 px are the spot's 100 µm, and 6 px of margin nearly all that the images have around it
            f"rnagan build-tiles --tiles {tiles} {columns} --crop-px 146 --tile-px 64 --margin-px 6 --mpp 1.569 "
            f"--out {work}/tiles",
        ),
        Stage(
            "splits",
            f"rnagan build-cohort --samples {tiles} {columns} --x-column array_x --y-column array_y "
            f"--split-by section --out {table}",
        ),
        Stage(
            "expression",
            f"rnagan build-expression --table {given}/expression.csv.gz --sample-column spot --units counts "
            f"--min-spots 20 --centre-by slide --cohort {table} --out {profiles}",
        ),
        Stage(
            "vae",
            f"rnagan train-vae --expression {profiles} --out {runs}/vae --preset spots --hidden 256 --latent 24 "
            f"--batch-size 32 --threads 1 --epochs {4 if scale.spot_images < 100 else 60}",
        ),
        Stage(
            "rnagan",
            f"rnagan train-rnagan {joined} --vae {runs}/vae --out {runs}/rnagan --preset two_critics {GAN} "
            f"--images {scale.spot_images} --batch-size 16",
        ),
        Stage(
            "evaluate",
            f"rnagan evaluate-faithfulness --model {runs}/rnagan {joined} --out {runs}/evaluation "
            f"--n {min(4, scale.tiles_per_profile)} --consecutive C2,C3,C4,C5,C6",
        ),
        Stage(
            "mosaic",
            f"rnagan generate-tiles --mosaic --model {runs}/rnagan --profiles {profiles} --split test --cohort {table} "
            f"--shards {work}/tiles --out {runs}/mosaic --n 1",
        ),
    ]


def unpaired(out: Path, data: Path, source: Path, scale: Scale) -> list[Stage]:
    """The demonstration on tiles of lung and colon and on GTEx's profiles in `source`, laid out likewise."""
    runs, work, given = _word(out), _word(data), _word(source)
    expression, tiles = f"{given}/expression/gtex_26tissues_520x467_sepira.csv.gz", f"{given}/tiles/tiles.csv"
    return [
        Stage(
            "slide",
            f"rnagan build-tiles --slides {given}/slides/CMU-1-Small-Region.svs --out {work}/slide",
        ),
        Stage(
            "tiles",
            f"rnagan build-tiles --tiles {tiles} --donor-column source_image --out {work}/tiles --tile-px 64",
        ),
        Stage(
            "splits",
            f"rnagan build-cohort --samples {expression} --slides {tiles} "
            f"--donor-column source_image --pair-by tissue --out {work}/cohort.csv",
        ),
        *_train_and_generate(
            runs,
            work,
            scale,
            expression=f"{expression} --units log2",
            vae="--hidden 512 --latent 32 --lr 1e-4 --batch-size 32 --epochs 60 --threads 1",
            gan=f"{GAN} --images {scale.unpaired_images} --batch-size 16",
            evaluation="",
        ),
    ]


def _joined(*words: str) -> str:
    """Parts of a command line, without the empty ones."""
    return " ".join(filter(None, words))


def _word(path: Path) -> str:
    """A path as (the start of) a word of a command line."""
    return shlex.quote(str(path))


def _train_and_generate(
    runs: str, work: str, scale: Scale, *, expression: str, vae: str, gan: str, evaluation: str
) -> list[Stage]:
    """From tiles, a cohort table and an expression table on: both models, tiles of held-out donors, their measures."""
    table, profiles = f"{work}/cohort.csv", f"{work}/expression.h5ad"
    joined = f"--shards {work}/tiles --cohort {table} --expression {profiles}"
    return [
        Stage(
            "expression",
            f"rnagan build-expression --table {expression} --cohort {table} --out {profiles}",
        ),
        Stage("vae", f"rnagan train-vae --expression {profiles} --out {runs}/vae {vae}"),
        Stage(
            "rnagan",
            f"rnagan train-rnagan {joined} --vae {runs}/vae --out {runs}/rnagan {gan}",
        ),
        Stage(
            "generate",
            f"rnagan generate-tiles --model {runs}/rnagan --profiles {profiles} --split test "
            f"--out {runs}/generated --n 8",
        ),
        Stage(
            "evaluate",
            _joined(
                f"rnagan evaluate-faithfulness --model {runs}/rnagan {joined} --out {runs}/evaluation "
                f"--n {scale.tiles_per_profile}",
                evaluation,
            ),
        ),
    ]


LEADS = {
    "simulated": "Tissue generated from gene expression, on a simulated cohort whose truth is known. Every tile at the "
    "right was generated from the profile of a donor whom neither the VAE nor the GAN has seen.",
    "spots": "Breast carcinoma generated spot by spot from the spot's own expression, on sections that the models have "
    "not seen, of people of whom they have seen others (her2st: Andersson et al. 2021, CC BY 4.0).",
    "unpaired": "Lung and colon generated by one model from real GTEx profiles that it has not seen. Tiles (LC25000) "
    "and profiles come from different people and are paired by tissue, so within a tissue nothing can be claimed.",
}


TITLES = {
    "simulated": "rnagan demo",
    "spots": "rnagan demo on real spots",
    "unpaired": "rnagan demo on real tiles and expression",
}


def run_demo(kind: str, out: Path, data: Path, source: Path | None, scale: str) -> None:
    """Run all stages into `out` and `data` and write `out/report.html` and `out/summary.json`.

    `kind`: simulated, spots or unpaired. `source`: of the latter two, the folder of real data
    (docs/walkthrough.md). Raises `FileNotFoundError` where it isn't there.
    """
    if source is None:
        stages = simulated(out, data, SCALES[scale])
    else:
        needed = source / (HER2ST if kind == "spots" else "tiles")
        if not needed.is_dir():
            raise FileNotFoundError(f"The data folder {needed} does not exist; docs/walkthrough.md says what it holds.")
        stages = (spots if kind == "spots" else unpaired)(out, data, source, SCALES[scale])
    records = run_stages(stages, out)
    mlflow = f"mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///{out}/mlflow.db"
    write_report(
        out,
        TITLES[kind],
        LEADS[kind],
        read_json(out / "evaluation" / "evaluation.json"),
        out / "evaluation",
        {name: read_metrics(out / name) for name in ("vae", "rnagan")},
        records,
        max(record["peak_memory_gb"] for record in records),
        mlflow,
    )
    seconds = sum(record["seconds"] for record in records)
    say(f"\nTook {seconds:.0f} s in all.\nReport: {out / 'report.html'}\nMLflow: {mlflow}")
