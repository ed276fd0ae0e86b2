"""The report of a reproduction: each number of the article beside ours, and every figure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rnagan.article.experiments import Cohort
from rnagan.config.reproduction import Settings
from rnagan.io.files import write_json
from rnagan.reports.labels import network_label
from rnagan.reports.pages import embedded, measure_rows, write_template
from rnagan.tracking.old_results import read_result

PAGE, TABLE = "report.html", "reproduction.json"
FID = {"gan": 87.85, "rnagan": 83.89}  # article: Discussion; 60,000 tiles of lung
PICTURES = (
    ("vae-evaluation/umap_pair.png", "Figure 2A: real profiles, reconstructed and generated ones, on a UMAP."),
    ("vae-evaluation/umap_shifted.png", "Figure 2B: profiles shifted from one tissue to another."),
    ("vae-evaluation/umap_generated.png", "Figure 2C: real and generated profiles."),
    ("vae-evaluation/rmse_per_tissue.png", "Figure S3: error of reconstruction by tissue."),
    ("fid-gan/features.png", "Figures 3B and 3C: features of real tiles, and of tiles of the GAN."),
    ("generated/grid.png", "Figure 4A: tiles that RNA-GAN generates from held-out profiles, a row each."),
    ("fid-rnagan/features.png", "Figure 4B: features of real tiles, and of tiles of RNA-GAN."),
    ("modes/figure4c.png", "Figure 4C: noise alone, and RNA-GAN."),
    ("external/generated.png", "Figure 4D: tiles generated from profiles of an external cohort."),
    ("modes/figure5.png", "Figure 5: GAN and RNA-GAN after as many images."),
    ("modes/losses.png", "Losses of the three modes."),
    ("reader-study/figure6.png", "Figure 6: differences in quality between sources, by tissue; a dot a reader."),
    ("classifier/confusion.png", "Figure S4: confusion matrices of the classifiers."),
    ("classifier/folds.png", "The classifiers' folds."),
    ("nearest/nearest.png", "Generated tiles with their nearest training tiles (not in the article)."),
    ("faithfulness/measures.png", "Generated tiles' morphology, donor by donor (not in the article)."),
    ("confounders/confounders.png", "Morphology against covariates and programmes (not in the article)."),
)


class Row(NamedTuple):
    """A number: where it is from, what it is, the article's, and ours with a 95% interval or an SD."""

    where: str
    what: str
    article: str
    ours: str
    around: str
    note: str = ""


def write_report(out: Path, cohort: Cohort, settings: Settings, stages: list[dict[str, Any]]) -> None:
    """Write `out/reproduction.json` and `out/report.html` of what the experiments left in `out`."""
    rows = [*_profiles(out), *_scores(out), *_followed(out), *_external(out), *_classifiers(out), *_readers(out)]
    write_json(
        out / TABLE,
        {"numbers": [row._asdict() for row in rows], "stages": stages, "settings": settings.to_dict()},
    )
    pictures = [(out / name, caption) for name, caption in PICTURES]
    write_template(
        out / PAGE,
        "reproduction.html",
        title="The article's experiments",
        lead=f"Carrillo-Perez et al. 2023, on {cohort.cohort} with tiles of {cohort.shards}.",
        rows=rows,
        pictures=embedded(pictures),
        stages=stages,
        left_out=[] if cohort.external else ["Figure 4D needs profiles of another cohort: --external."],
        form=(out / "reader-form/form.html").is_file(),
    )


def _profiles(out: Path) -> Iterator[Row]:
    summary = read_result(out / "vae-evaluation" / "summary.json")
    rmse, pca = (summary["reconstruction"][name]["rmse_z"] for name in ("vae", "pca"))
    yield Row("figure S3", "RMSE of held-out profiles, the encoder's units", "–", f"{rmse:.3f}", "", f"PCA: {pca:.3f}")


def _scores(out: Path) -> Iterator[Row]:
    for mode, theirs in FID.items():
        scored = read_result(out / f"fid-{mode}" / "fid.json")
        for score in scored["scores"]:
            if score["part"] != "all":
                continue
            is_distance = score["name"].startswith(("fid", "frechet"))
            around = f"{score['low']:.4g} to {score['high']:.4g}" if score.get("low") is not None else ""
            network, notes = network_label(score.get("in_training")), []
            if network:
                notes.append(f"the network is {network}")
            if is_distance and scored["floor"]:
                floor = scored["floor"]
                notes.append(f"halves of the donors: real {floor['floor']:.4g}, generated {floor['matched']:.4g}")
            if is_distance and score["name"] != "fid_60k":
                notes.append("not FID-60k, so not to be compared with the article's")
            if is_distance and scored.get("few_tiles"):
                notes.append("of few tiles, so go by KID")
            article = f"{theirs} (FID-60k)" if is_distance else "–"
            yield Row("FID", f"{mode}: {score['name']}", article, f"{score['value']:.4g}", around, "; ".join(notes))


def _followed(out: Path) -> Iterator[Row]:
    """What the article doesn't measure."""
    evaluation = read_result(out / "faithfulness" / "evaluation.json")
    yield Row("–", "tissue of generated tiles called right", "–", f"{evaluation['tissue_accuracy']:.1%}", "")
    for row in measure_rows(evaluation):
        around = f"{row['low']:+.2f} to {row['high']:+.2f}"
        yield Row("–", f"r of {row['label']}, {row['tissue']}", "–", f"{row['r']:+.2f}", around, f"p {row['p']:.2g}")
    copies = read_result(out / "nearest" / "nearest.json")
    yield Row("–", f"copies among {copies['generated']:,} generated tiles", "–", f"{len(copies['copies'])}", "")


def _external(out: Path) -> Iterator[Row]:
    path = out / "external" / "result.json"
    if not path.is_file():
        return
    result = read_result(path)
    for score in result["scores"]:
        measure = score["name"].partition(",")[0]
        theirs = result["article"].get(measure) if "generated" in score["name"] else None
        article, ours = "–" if theirs is None else f"{theirs}", f"{score['value']:.3f}"
        around = "" if score.get("low") is None else f"{score['low']:.3f} to {score['high']:.3f}"
        yield Row("figure 4D", score["name"], article, ours, around)


def _classifiers(out: Path) -> Iterator[Row]:
    result = read_result(out / "classifier" / "result.json")
    for start, measures in result["starts"].items():
        for measure, theirs in result["article"].get(start, {}).items():
            own = measures[measure]
            ours, around = f"{own['mean']:.1%} ± {own['sd']:.1%}", f"{own['low']:.1%} to {own['high']:.1%}"
            yield Row("figure S4", f"{measure}, {start}", f"{theirs[0]:.2%} ± {theirs[1]:.2%}", ours, around)


def _readers(out: Path) -> Iterator[Row]:
    """Quality by readers, and paired tests; of the article's own scores the figures are a check of the arithmetic."""
    result = read_result(out / "reader-study" / "result.json")
    note = "the article's own scores" if "article" in result else ""
    for row in result["summary"]:
        if row["measure"] != "quality":
            continue
        theirs = f"{row['article_mean']:.2f} ± {row['article_sd']:.2f}" if "article_mean" in row else "–"
        ours = f"{row['mean']:.2f}" if row["sd"] is None else f"{row['mean']:.2f} ± {row['sd']:.2f}"
        yield Row("figure 6", f"quality of {row['source']}, {row['tissue'] or 'any tissue'}", theirs, ours, "", note)
    for test in result["tests"]:
        if test["p"] is None:
            continue
        what = f"p of {test['first']} over {test['second']}, {test['tissue'] or 'any tissue'}"
        theirs = "–" if test.get("article_p") is None else f"{test['article_p']:.3f}"
        ours = f"{test['p']:.3f} on both sides, {test['p_first_better']:.3f} on one"
        around = f"{test['low']:+.2f} to {test['high']:+.2f}"
        yield Row("figure 6", what, theirs, ours, around, f"Holm {test['p_holm']:.3f}")
