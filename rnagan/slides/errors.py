"""Why a slide became no shard."""


class SlideError(ValueError):
    """A slide that can't be tiled: one sentence for the user, and a `reason` that groups slides in the summary."""

    reason = "unreadable"


class MissingResolutionError(SlideError):
    """A slide that doesn't say its resolution."""

    reason = "no resolution"


class UnusableResolutionError(SlideError):
    """A slide that is too coarse for the resolution asked for, or whose pixels aren't square."""

    reason = "unusable resolution"


class DamagedSlideError(SlideError):
    """A slide that opens, with pixels that can't be read."""

    reason = "damaged"


class CoordinatesError(SlideError):
    """A slide whose coordinates file is missing, broken or made for other tiles."""

    reason = "coordinates"
