"""The names that tables give genes and samples: what a gene's id is in each spelling, and what is no gene."""

import re
from typing import NamedTuple

# What files write before an id: the published list of protein-coding genes (rna_ENSG00000186092.4), Ensembl's GFF3
# (gene:ENSG…), 10x references of two genomes (GRCh38_ENSG…).
_PREFIX = r"(?:rna_|gene:|GRCh3[78]_+|hg(?:19|38)_+)?"
# Version, make.unique's number, GENCODE's lift-over suffix (ENSG00000168939.12_4), the Y copy of a PAR gene, a symbol.
_ENSEMBL = re.compile(
    rf"{_PREFIX}(?P<id>ENS[A-Z]*\d+)(?:\.\d+){{0,2}}(?:_\d+(?![A-Za-z\d-]))?(?P<par>_PAR_[XY])?(?:_\d+(?![A-Za-z\d-]))?"
    r"(?:[|_:;/ ]+(?P<symbol>[^\s|][^|]*)(?:\|.*)?)?",
    re.IGNORECASE,
)
_SYMBOL_FIRST = re.compile(r"(?P<symbol>[^|(]+?)(?:\||_| ?\()(?P<id>ENS[A-Z]*G\d{6,})(?:\.\d+)?\)?", re.IGNORECASE)
_SYMBOL_ENTREZ = re.compile(r"(?P<symbol>[^|(]+?)(?:\|(?P<id>\d+)| \((?P<other>\d+)\))")  # A1BG|1, TSPAN6 (7105)
_TRANSCRIPT = re.compile(rf"{_PREFIX}ENS[A-Z]*T\d{{6,}}.*", re.IGNORECASE)
# Rows that counting programs add: STAR, HTSeq (old and new), featureCounts, Salmon, 10x; spike-ins of the ERCC.
_SUMMARY = re.compile(
    r"_*(n_)?(unmapped|multi_?mapping|no_?feature|ambiguous|too_low_aqual|not_aligned|alignment_not_unique)"
    r"|unassigned_.+|ercc-\d+|\*",
    re.IGNORECASE,
)
# Of donors, samples and libraries. None is the symbol of a human gene; `PC`, `MET` or `SET` are, so they aren't here.
_CLINICAL = re.compile(
    "age|age_at_index|age_at_diagnosis|agebracket|sex|gender|rin|smrin|bmi|pmi|ph_value|height|weight|race|ethnicity|"
    "stage|grade|smoker|smoking_status|(vital_)?status|survival(_time)?|(os|pfi|dss|dfi)([._](time|status))?|event|"
    "days_to_(death|birth|last_follow_?up)|batch|plate|lane|site|center|centre|hospital|year|isch(a)?emic_(time|min)|"
    "smtsisch|dthhrdy|hardy_scale|(tumou?r_)?purity|tissue|donor|split|slide|sample|patient|lib(rary)?[._]?size|"
    "(size|norm)[._]?factors?|totals?|total[._]?(counts|reads)|sum|n_?counts(_rna)?|ncount_rna|n_?genes(_by_counts)?|"
    "nfeature_rna|pct_counts_mt|percent[._]mito?|mito_fraction|cluster|leiden|louvain|seurat_clusters",
    re.IGNORECASE,
)
SAMPLE = re.compile(
    r"(GTEX|TCGA|TARGET)[-._].+|C3[LN][-._]\d{5}.*|GSM\d+.*|[SED]RR\d+.*|[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-.+",
    re.IGNORECASE,
)
# Symbols that nearly every table of human genes has, and that nobody calls a sample.
WELL_KNOWN = re.compile(
    "ACTB|GAPDH|B2M|TP53|EGFR|KRAS|MYC|BRCA[12]|PTEN|ERBB2|CDKN2A|RB1|ESR1|PGR|MKI67|CD4|CD8A|CD3E|CD19|MS4A1|PTPRC|"
    "EPCAM|VIM|CDH1|COL1A[12]|ALB|INS|HBB|HBA1|TTN|MYH7|GFAP|SFTP[BC]|TSPAN6|TNMD|DPM1|SCYL3|XIST|RPLP0|HPRT1|UBC|TBP|"
    "PPIA|STAT[13]|IL6|TNF|IFNG|A1BG|A2M"
)


class GeneName(NamedTuple):
    """`id`: without prefix, version and suffixes. `symbol`: where the name says it too, else ''. `kind`: ensembl,
    number (Entrez), word (a symbol, or any other name) or other: the name of no gene. `is_par_y`: the Y copy of a
    pseudoautosomal gene, ENSG…_PAR_Y, before 2017 ENSGR…."""

    id: str
    symbol: str
    kind: str
    is_par_y: bool = False


def parse_gene(name: str) -> GeneName:
    """What a table calls a gene, in all the spellings above; a name of none of them is its own id."""
    name = name.strip()
    if name.isdigit():
        return GeneName(name, "", "number")
    if match := _ENSEMBL.fullmatch(name) or _SYMBOL_FIRST.fullmatch(name):
        gene, parts = match["id"].upper(), match.groupdict()
        is_par_y = gene.startswith("ENSGR") or (parts.get("par") or "").upper() == "_PAR_Y"
        return GeneName(gene, (parts["symbol"] or "").strip(), "ensembl", is_par_y)
    if match := _SYMBOL_ENTREZ.fullmatch(name):
        symbol = match["symbol"].strip()
        return GeneName(match["id"] or match["other"], "" if symbol == "?" else symbol, "number")
    if _SUMMARY.fullmatch(name) or _CLINICAL.fullmatch(name):
        return GeneName(name, "", "other")
    return GeneName(name.removeprefix("rna_"), "", "word", name.upper().endswith("_PAR_Y"))


def is_transcript(name: str) -> bool:
    """Whether a name is that of a transcript of Ensembl."""
    return _TRANSCRIPT.fullmatch(name.strip()) is not None
