"""Pairs slides with profiles and makes the cohort table of the pairs."""

import collections
from collections.abc import Collection

import pandas as pd

from rnagan.cohort.table import COLUMNS, assign_splits, check_cohort
from rnagan.cohort.table import split_by as split_by_of
from rnagan.io.tables import first_few
from rnagan.runtime import rng


def build_cohort(
    samples: pd.DataFrame,
    slides: pd.DataFrame,
    pair_by: str = "donor",
    seed: int = 0,
    existing: pd.DataFrame | None = None,
    place_name: str = "place",
    tissues: Collection[str] = (),
    split_by: str = "donor",
    all_in: str | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Pair profiles with slides and split by donor; returns the cohort table and notes for the user.

    `samples`: sample, donor, tissue, site. `slides`: slide, donor, tissue, site, and sample where it is known. Further
    columns of either are carried along; where both have one, the slide's value wins unless it is empty.
    `pair_by` donor: a slide goes with the profile of its sample or else of its donor and tissue; where both tables have
    `place` (called `place_name` in notes), with that of its donor and place, else of its donor and tissue, if it has
    one. tissue: each image donor is given to one profile of its tissue, for collections where images and profiles come
    from different people. Of several profiles that fit, one of `existing` is taken, else the first.
    `tissues`: only these are kept, whatever their case; all if empty.
    All pairs of `existing` and the splits of its donors stay, and its samples and slides that are not given are kept.
    `split_by` sample: samples are dealt instead of donors, and the column `split_by` says so; `all_in`: one split.
    """
    notes: list[str] = []
    if slides.empty:
        pairs = pd.DataFrame({"sample": [], "slide": [], "site": []}, dtype=str)
    elif pair_by == "tissue":
        pairs = _pair_by_tissue(samples, slides, seed, existing, notes)
    elif "place" in samples and "place" in slides:
        pairs = _pair_by_place(samples, slides, existing, place_name, notes)
    else:
        pairs = _pair_by_donor(samples, slides, existing, notes)
    if existing is not None:
        pairs = _with_existing_pairs(pairs, slides, existing, notes)
    cohort = _join(samples.drop(columns=["place", "unpictured"], errors="ignore"), pairs)
    if tissues:
        cohort = _of_tissues(cohort, tissues, notes)
    kept: dict[str, str] = {}
    if existing is not None:
        before = split_by_of(existing)
        if before != split_by:
            raise ValueError(
                f"The earlier table (--extend) was split by {before}; go on with --split-by {before}, or begin anew."
            )
        kept = dict(zip(existing[split_by], existing["split"], strict=True))
        cohort = _with_existing_rows(cohort, existing)
    tissues_of = {str(one): set(group) for one, group in cohort.groupby(split_by)["tissue"]}
    splits = dict.fromkeys(tissues_of, all_in) if all_in else assign_splits(tissues_of, seed=seed, existing=kept)
    cohort["split"] = cohort[split_by].map(splits)
    if split_by == "sample":
        cohort["split_by"] = split_by
    cohort = cohort[[*COLUMNS, *(column for column in cohort if column not in COLUMNS)]]
    cohort = cohort.sort_values(["sample", "slide"], ignore_index=True)
    check_cohort(cohort)
    without = cohort.loc[cohort["slide"] == "", "sample"].unique()
    if len(without) and not slides.empty:
        notes.append(f"{len(without):,} profiles have no slide and are kept for the VAE: {first_few(without)}.")
    return cohort, notes


def _pair_by_donor(
    samples: pd.DataFrame, slides: pd.DataFrame, existing: pd.DataFrame | None, notes: list[str]
) -> pd.DataFrame:
    profiles = _earlier_first(samples.sort_values("sample"), existing)
    if "sample" in slides:
        partner = slides["sample"].where(slides["sample"].isin(profiles["sample"]))
    else:
        first, counts = _first_of_each(profiles, ["donor", "tissue"])
        wanted = _keys(slides, ["donor", "tissue"])
        partner = pd.Series([first.get(key) for key in wanted], index=slides.index, dtype=object)
        several = sum(counts[key] > 1 for key in set(wanted))
        if several:
            notes.append(f"{several:,} donors' tissues have several profiles; their slides go with the first by name.")
    _note_unpaired(slides, partner, notes)
    return _pairs(slides, partner)


def _pair_by_place(
    samples: pd.DataFrame, slides: pd.DataFrame, existing: pd.DataFrame | None, place_name: str, notes: list[str]
) -> pd.DataFrame:
    """By donor and place, in the order of `samples`; else by donor and tissue where the slide has a tissue and the
    sample was taken from a piece that was sectioned. An empty place counts as unknown."""
    profiles = _earlier_first(samples, existing)
    pictured = profiles[~profiles["unpictured"]] if "unpictured" in profiles else profiles
    in_place, counts = _first_of_each(profiles[profiles["place"] != ""], ["donor", "place"])
    of_tissue, _ = _first_of_each(pictured, ["donor", "tissue"])
    places, tissues = _keys(slides, ["donor", "place"]), _keys(slides, ["donor", "tissue"])
    by_place = pd.Series([in_place.get(key) for key in places], index=slides.index, dtype=object)
    by_tissue = pd.Series([of_tissue.get(key) for key in tissues], index=slides.index, dtype=object)
    by_tissue = by_tissue.where(by_place.isna() & (slides["tissue"] != ""))
    partner = by_place.where(by_place.notna(), by_tissue)
    _refuse_no_pair(slides, partner, f"do both tables hold the same donors' {place_name}s?")
    said = [f"{by_place.notna().sum():,} slides are paired by donor and {place_name}"]
    if by_tissue.notna().any():
        names = first_few(slides.loc[by_tissue.notna(), "slide"])
        said.append(f"{by_tissue.notna().sum():,} by donor and tissue ({names})")
    unpaired = slides.loc[partner.isna()]
    if len(unpaired):
        strangers = (~unpaired["donor"].isin(samples["donor"])).sum()
        said.append(f"{len(unpaired):,} not at all and left out ({first_few(unpaired['slide'])})")
        said.append(f"{strangers:,} of them of donors without a profile")
    notes.append(", ".join(said) + ".")
    several = [in_place[key] for key in sorted(set(places)) if counts[key] > 1]
    if several:
        notes.append(
            f"{len(several):,} donors' {place_name}s with slides have several profiles; their slides go with the "
            f"first, {first_few(several)}."
        )
    shared = [key for key, count in collections.Counter(places).items() if count > 1 and key in in_place]
    if shared:
        names = first_few(slides.loc[[key == shared[0] for key in places], "slide"])
        notes.append(f"{len(shared):,} donors' {place_name}s have several slides, which share a profile, as {names}.")
    _note_other_tissues(samples, slides, by_place, place_name, notes)
    return _pairs(slides, partner)


def _note_other_tissues(
    samples: pd.DataFrame, slides: pd.DataFrame, by_place: pd.Series, place_name: str, notes: list[str]
) -> None:
    """Count slides whose table says another tissue than the profile has (`Brain` and `Brain - Cortex` are one)."""
    of_sample = by_place.map(dict(zip(samples["sample"], samples["tissue"], strict=True)))
    paired = by_place.notna() & (slides["tissue"] != "")
    said, found = (
        tissues[paired].astype(str).str.casefold().str.replace(" - .*", "", regex=True)
        for tissues in (slides["tissue"], of_sample)
    )
    odd = said.index[said != found]
    if len(odd):
        example = f"{slides.loc[odd[0], 'slide']}, {slides.loc[odd[0], 'tissue']} against {of_sample[odd[0]]}"
        notes.append(f"{len(odd):,} slides are of another tissue than the profile of their {place_name}, as {example}.")


def _pair_by_tissue(
    samples: pd.DataFrame, slides: pd.DataFrame, seed: int, existing: pd.DataFrame | None, notes: list[str]
) -> pd.DataFrame:
    tissues = slides["tissue"].str.casefold().groupby(slides["donor"]).agg(lambda of_donor: sorted(set(of_donor)))
    mixed = tissues[tissues.map(len) > 1]
    if len(mixed):
        raise ValueError(
            f"Image donors with several tissues ({first_few(mixed.index)}) can't be paired by tissue: "
            "their images could land in two splits."
        )
    partner: dict[str, str] = {}
    if existing is not None and "image_donor" in existing:
        paired = existing[(existing["image_donor"] != "") & existing["sample"].isin(samples["sample"])]
        partner = dict(zip(paired["image_donor"], paired["sample"], strict=True))
    for tissue, profiles in samples.sort_values("sample").groupby(samples["tissue"].str.casefold())["sample"]:
        random = rng.generator(seed, f"pairs/{tissue}")
        load = dict.fromkeys(random.permutation(profiles.to_numpy(object)).tolist(), 0)
        for sample in partner.values():
            if sample in load:
                load[sample] += 1
        new = sorted(donor for donor in tissues.index if tissues[donor] == [tissue] and donor not in partner)
        for n in random.permutation(len(new)):
            partner[new[n]] = min(load, key=load.__getitem__)
            load[partner[new[n]]] += 1
    sample = slides["donor"].map(partner)
    _note_unpaired(slides, sample, notes)
    return _pairs(slides.assign(image_donor=slides["donor"]), sample)


def _keys(table: pd.DataFrame, columns: list[str]) -> list[tuple[str, ...]]:
    values = (table[column].str.casefold() if column == "tissue" else table[column] for column in columns)
    return list(zip(*values, strict=True))


def _first_of_each(
    profiles: pd.DataFrame, columns: list[str]
) -> tuple[dict[tuple[str, ...], str], collections.Counter[tuple[str, ...]]]:
    """The first sample and the number of samples of each combination of values."""
    keys = _keys(profiles, columns)
    first: dict[tuple[str, ...], str] = {}
    for key, sample in zip(keys, profiles["sample"], strict=True):
        first.setdefault(key, sample)
    return first, collections.Counter(keys)


def _earlier_first(samples: pd.DataFrame, existing: pd.DataFrame | None) -> pd.DataFrame:
    """Samples that an earlier table paired come first, so that later slides of a piece join its earlier ones."""
    if existing is None:
        return samples
    known = samples["sample"].isin(existing.loc[existing["slide"] != "", "sample"])
    return pd.concat([samples[known], samples[~known]])


def _pairs(slides: pd.DataFrame, partner: pd.Series) -> pd.DataFrame:
    """The paired slides with their sample and further columns; donor and tissue are those of the profile."""
    pairs = slides.assign(sample=partner).drop(columns=["donor", "tissue", "place"], errors="ignore")
    return pairs.dropna(subset="sample")


def _with_existing_pairs(
    pairs: pd.DataFrame, slides: pd.DataFrame, existing: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Pairs of an earlier table instead of new ones of the same slides, and those of slides that are not given."""
    old = existing[existing["slide"] != ""]
    of_slide = dict(zip(old["slide"], old["sample"], strict=True))
    now = zip(pairs["slide"], pairs["sample"], strict=True)
    differs = [slide for slide, sample in now if of_slide.get(slide, sample) != sample]
    if differs:
        notes.append(
            f"{len(differs):,} slides keep the profile that the earlier table gives them, though they would now go "
            f"with another: {first_few(differs)}; delete their rows to pair them anew."
        )
    not_given = old[~old["slide"].isin(slides["slide"])]
    if len(not_given):
        notes.append(f"{len(not_given):,} slides of the earlier table are kept without being given again.")
    carried = [column for column in pairs if column not in ("sample", "slide", "site")]
    again = old[["sample", "slide", "site"]].join(slides.set_index("slide").reindex(columns=carried), on="slide")
    return pd.concat([pairs[~pairs["slide"].isin(old["slide"])], again])


def _join(samples: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair and each sample without one; the slide's site and further values win unless empty."""
    cohort = samples.merge(pairs, on="sample", how="left", suffixes=("", "_slide")).fillna("")
    for column in [column for column in samples if f"{column}_slide" in cohort]:
        of_slide = cohort.pop(f"{column}_slide")
        cohort[column] = of_slide.where(of_slide != "", cohort[column])
    return cohort


def _of_tissues(cohort: pd.DataFrame, tissues: Collection[str], notes: list[str]) -> pd.DataFrame:
    present = cohort["tissue"].str.casefold()
    unknown = [tissue for tissue in tissues if tissue.casefold() not in set(present)]
    if unknown:
        there = first_few(sorted(set(cohort["tissue"])), 60)
        raise ValueError(f"No profile is of tissue {', '.join(unknown)} (--tissues); there are {there}.")
    kept = present.isin({tissue.casefold() for tissue in tissues})
    left = cohort[~kept]
    notes.append(
        f"{left['sample'].nunique():,} profiles and {(left['slide'] != '').sum():,} slides left out: of other tissues "
        f"({first_few(sorted(set(left['tissue'])))})."
    )
    return cohort[kept].reset_index(drop=True)


def _with_existing_rows(cohort: pd.DataFrame, existing: pd.DataFrame) -> pd.DataFrame:
    """The cohort with the earlier table's samples that are not given, and with its further columns where they are
    empty now."""
    gone = existing[~existing["sample"].isin(cohort["sample"])]
    further = [column for column in existing if column not in COLUMNS]
    keys = pd.MultiIndex.from_frame(existing[["sample", "slide"]])
    here = pd.MultiIndex.from_frame(cohort[["sample", "slide"]])
    for column in further:
        earlier = pd.Series(existing[column].to_numpy(), keys).reindex(here).fillna("").to_numpy()
        now = cohort[column] if column in cohort else pd.Series("", cohort.index)
        cohort[column] = now.where(now != "", earlier)
    return pd.concat([cohort, gone], ignore_index=True).fillna("")


def _note_unpaired(slides: pd.DataFrame, partner: pd.Series, notes: list[str]) -> None:
    left = slides.loc[partner.isna(), "slide"]
    _refuse_no_pair(
        slides,
        partner,
        "do donors and tissues of the two tables have the same names? Name other columns with --donor-column and "
        "--tissue-column.",
    )
    if len(left):
        notes.append(f"{len(left):,} slides have no profile and are left out: {first_few(left)}.")


def _refuse_no_pair(slides: pd.DataFrame, partner: pd.Series, hint: str) -> None:
    if partner.isna().all():
        raise ValueError(f"No slide has a profile (slides {first_few(slides['slide'])}): {hint}")
