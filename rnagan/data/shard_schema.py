"""What shards hold, tiles or profiles: how an item is stored and described, and what makes a set one of its kind."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pandas as pd

from rnagan.data.image_codec import EXTENSIONS, image_problem
from rnagan.data.npy_codec import profile_problem
from rnagan.data.tars import Member
from rnagan.io.bounds import MAX_PIXELS
from rnagan.io.files import sha256_of

OF_TILE = "tile"  # what `dataset.json` and the options of a record say of `profile`, where each tile names its own
MPP_TOLERANCE = 0.02  # share by which tiles may differ from the mpp of their set, where its options say no other


class IndexRow(NamedTuple):
    """A tile in its tar: `offset` and `size` of the image in bytes, x and y in level-0 px, -1 where unknown."""

    key: str
    offset: int
    size: int
    crc32: int
    x: int
    y: int


class SpotRow(NamedTuple):
    """As `IndexRow`, of a tile with a profile of its own: `profile` is the sample's id."""

    key: str
    offset: int
    size: int
    crc32: int
    x: int
    y: int
    profile: str


class ProfileRow(NamedTuple):
    """A profile in its tar: `offset` and `size` of the .npy in bytes, and its sample."""

    key: str
    offset: int
    size: int
    crc32: int
    sample: str


@dataclasses.dataclass(frozen=True)
class TileKind:
    """Tiles of one size and resolution. `own_profiles`: each names its own profile, else a slide has one. `margin_px`:
    by how much a stored image is wider than its tile on each side, so that training can shift the tile in it."""

    tile_px: int
    mpp: float | None
    own_profiles: bool = False
    margin_px: int = 0

    shard: ClassVar[str] = "slide"  # what messages call a shard,
    item: ClassVar[str] = "tile"  # what it holds,
    stored: ClassVar[str] = "image"  # and as what
    extensions: ClassVar[tuple[str, ...]] = EXTENSIONS
    stored_as: ClassVar[str] = "jpg"  # by us
    again: ClassVar[str] = "build this slide again"

    def __str__(self) -> str:
        return f"tiles of {name_kind(self)}"

    @property
    def facts(self) -> dict[str, Any]:
        """What `dataset.json` says of the kind."""
        facts: dict[str, Any] = {"tile_px": self.tile_px, "mpp": self.mpp}
        facts |= {"profile": OF_TILE} if self.own_profiles else {}
        return facts | ({"margin_px": self.margin_px} if self.margin_px else {})

    @property
    def stored_px(self) -> int:
        """Width and height of a stored image: the tile and its margin."""
        return self.tile_px + 2 * self.margin_px

    @property
    def row_type(self) -> type[IndexRow] | type[SpotRow]:
        """What its index has of an item."""
        return SpotRow if self.own_profiles else IndexRow

    def item_problem(self, data: bytes) -> str | None:
        """What keeps stored bytes from being an item of this kind, or None. Decodes them."""
        return image_problem(self.stored_px, data)

    def index_row(self, member: Member, about: dict[str, Any]) -> IndexRow | SpotRow:
        """The index row of an item, from its member and its description in the tar."""
        row = member.key, member.offset, member.size, member.crc32, *_corner(about)
        return SpotRow(*row, str(about.get("profile", ""))) if self.own_profiles else IndexRow(*row)

    def description_problem(self, key: str, about: dict[str, Any], record: dict[str, Any]) -> str | None:
        """What is wrong with an item's KEY.json (None where it is none of ours), or None."""
        slide, tolerance = record["slide"], record["options"].get("mpp_tolerance", MPP_TOLERANCE)
        if about.get("slide") != slide:
            return f"a description of {key!r} that is no JSON or of another slide"
        if not key.startswith(f"{slide}_"):
            return f"a key {key!r} that doesn't begin with its slide"
        x, y = about.get("x"), about.get("y")
        if (x, y) != (None, None) and key != f"{slide}_x{x}_y{y}":
            return f"a description of {key!r} with another position"
        if about.get("tile_px") != self.tile_px:
            return f"a description of {key!r} with tile_px {about.get('tile_px')}, not {self.tile_px}"
        if about.get("margin_px", 0) != self.margin_px:
            return f"a description of {key!r} with margin_px {about.get('margin_px', 0)}, not {self.margin_px}"
        if not same_mpp(about.get("mpp"), self.mpp, tolerance):
            return f"a description of {key!r} with mpp {about.get('mpp')}, not {self.mpp}"
        if self.own_profiles and not _is_text(about.get("profile")):
            return f"a description of {key!r} that names no profile"
        return None


@dataclasses.dataclass(frozen=True)
class ProfileKind:
    """Profiles of one list of genes, in one unit. `genes_sha256`: of genes, symbols and units (`genes_digest`)."""

    genes: int
    units: str
    genes_sha256: str

    shard: ClassVar[str] = "shard"
    item: ClassVar[str] = "profile"
    stored: ClassVar[str] = "array"
    extensions: ClassVar[tuple[str, ...]] = ("npy",)
    stored_as: ClassVar[str] = "npy"
    again: ClassVar[str] = "build these profiles again (rnagan build-profiles)"
    row_type: ClassVar[type[ProfileRow]] = ProfileRow

    def __str__(self) -> str:
        return f"profiles of {self.genes:,} genes in {self.units} (list {self.genes_sha256[:8]})"

    @property
    def facts(self) -> dict[str, Any]:
        """What `dataset.json` says of the kind."""
        return {"kind": "profiles", **dataclasses.asdict(self)}

    def item_problem(self, data: bytes) -> str | None:
        """What keeps stored bytes from being an item of this kind, or None. Decodes them."""
        return profile_problem(self.genes, data)

    def index_row(self, member: Member, about: dict[str, Any]) -> ProfileRow:
        """The index row of an item, from its member and its description in the tar."""
        return ProfileRow(member.key, member.offset, member.size, member.crc32, str(about.get("sample", "")))

    def description_problem(self, key: str, about: dict[str, Any], record: dict[str, Any]) -> str | None:
        """What is wrong with an item's KEY.json (None where it is none of ours), or None."""
        if not about.get("sample") or not isinstance(about["sample"], str):
            return f"a description of {key!r} that is no JSON or names no sample"
        if not key.startswith(f"{record['slide']}_"):
            return f"a key {key!r} that doesn't begin with its shard"
        if about.get("units") != self.units:
            return f"a description of {key!r} in {about.get('units')}, not {self.units}"
        return None


Kind = TileKind | ProfileKind


def kind_of(options: dict[str, Any]) -> Kind:
    """The kind that the options of a record, or `dataset.json`, state. Raises `ValueError`, a phrase."""
    if options.get("kind") == "profiles":
        return ProfileKind(*_checked(options, {"genes": _is_count, "units": _is_text, "genes_sha256": _is_text}))
    tile_px, mpp = _checked(options, {"tile_px": _is_side, "mpp": _is_mpp})
    if options.get("profile") not in (None, OF_TILE):
        raise ValueError(f"has profile {options['profile']!r} in its options, not {OF_TILE!r}")
    margin_px = options.get("margin_px", 0)
    if margin_px != 0 and not (_is_side(margin_px) and _is_side(tile_px + 2 * margin_px)):
        raise ValueError(f"has margin_px {margin_px!r} in its options, which is no number of px")
    return TileKind(tile_px, mpp, options.get("profile") == OF_TILE, margin_px)


def genes_digest(table: pd.DataFrame, units: str) -> str:
    """Digest of the genes (columns gene and symbol) and the units of a set of profiles. Raises `KeyError`."""
    return sha256_of([table["gene"].tolist(), table["symbol"].tolist(), units])


def is_positive(value: Any) -> bool:
    """Whether a value from JSON is a number above 0; NaN, infinity and true aren't."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def same_mpp(stored: Any, asked: float | None, tolerance: float = MPP_TOLERANCE) -> bool:
    """Whether tiles of `stored` mpp belong to a set of `asked` mpp: slides near it aren't resampled."""
    if asked is None or stored is None:
        return stored is asked
    return is_positive(stored) and abs(asked / stored - 1) <= tolerance + 1e-4  # stored values are rounded


def name_kind(kind: TileKind) -> str:
    """`256 px at 0.5 µm`, for messages."""
    own = ", each with its profile" if kind.own_profiles else ""
    margin = f" and a margin of {kind.margin_px} px" if kind.margin_px else ""
    return f"{kind.tile_px} px{margin} at {kind.mpp or 'unknown'} µm{own}"


def _checked(options: dict[str, Any], fields: dict[str, Callable[[Any], bool]]) -> list[Any]:
    if not all(name in options and is_right(options[name]) for name, is_right in fields.items()):
        *names, last = fields
        raise ValueError(f"doesn't say {', '.join(names)} and {last} in its options")
    return [options[name] for name in fields]


def _is_mpp(value: Any) -> bool:
    return value is None or is_positive(value)


def _is_side(value: Any) -> bool:
    return _is_count(value) and value**2 <= MAX_PIXELS


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and is_positive(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _corner(about: dict[str, Any]) -> tuple[int, int]:
    """x and y of a description, -1 where they aren't whole numbers."""
    x, y = (about.get(axis) for axis in "xy")
    known = all(isinstance(n, int) and not isinstance(n, bool) and abs(n) < 2**62 for n in (x, y))
    return (x, y) if known else (-1, -1)  # type: ignore[return-value]
