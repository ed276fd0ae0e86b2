"""Settings of a simulated cohort."""

import dataclasses

from rnagan.config.base import Config, setting
from rnagan.io.bounds import MAX_SEED

TISSUES = ("cortex", "lung", "liver", "muscle")  # kinds that can be drawn: rnagan/simulation/tissues.py


@dataclasses.dataclass(frozen=True)
class SimulationConfig(Config):
    """A cohort with known truth: donors, their profiles, and slides of some of them."""

    donors: int = setting(1500, "donors; each has a profile of every tissue kind", low=10)
    slide_donors: int = setting(400, "donors, drawn at random, who also have a slide of every tissue kind", low=1)
    genes: int = setting(1000, "genes in the expression table", low=50)
    sites: int = setting(4, "centres, each with a stain of its own that has nothing to do with the RNA", low=1)
    tiles_across: int = setting(4, "width of a slide's tissue, in tiles", low=1)
    tiles_down: int = setting(3, "height of a slide's tissue, in tiles", low=1)
    tile_um: float = setting(64.0, "width of such a tile, µm", low=8.0)
    seed: int = setting(0, "seed of everything", low=0, high=MAX_SEED)
    tissues: str = setting("cortex,lung", f"tissue kinds, of {', '.join(TISSUES)}")
    confounded: bool = setting(
        False, "ischaemic time moves a gene module and pales the matrix; else it has nothing to do with either"
    )

    sections: int = setting(
        0,
        "sections of each donor with a slide, of every tissue kind, whose spots have counts; 0: whole slides, each "
        "with a profile",
        low=0,
    )
    spot_grid: str = setting("hexagonal", "how spots lie on a section", choices=("hexagonal", "square"))
    spot_pitch_um: float = setting(100.0, "distance of neighbouring spots, µm", low=8.0)
    spot_counts: int = setting(4000, "counts of a spot, median", low=100)

    def check(self) -> None:
        if self.sections and self.confounded:
            raise ValueError("confounded is of whole slides with a profile each; leave it out, or sections.")
        width, height = self.tiles_across * self.tile_um, self.tiles_down * self.tile_um
        if self.sections and min(width, height) < 2 * self.spot_pitch_um:
            raise ValueError(
                f"A section of {width:g} × {height:g} µm (tiles_across and tiles_down of tile_um) has no room for "
                f"spots every {self.spot_pitch_um:g} µm; make it larger."
            )
        if self.slide_donors > self.donors:
            raise ValueError(f"slide_donors ({self.slide_donors}) can't be more than donors ({self.donors}).")
        names = self.tissue_names
        if not names or len(set(names)) < len(names) or not set(names) <= set(TISSUES):
            raise ValueError(f"tissues must name some of {', '.join(TISSUES)}, each once, not {self.tissues!r}.")

    @property
    def tissue_names(self) -> list[str]:
        return [name.strip() for name in self.tissues.split(",") if name.strip()]
