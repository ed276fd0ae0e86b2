"""The null of every claim about RNA: each donor's slides with the profile of another donor of the tissue."""

import pandas as pd

from rnagan import rng


def shuffled_samples(table: pd.DataFrame, seed: int) -> list[str]:
    """The sample whose profile each row of `table` (sample, donor, tissue) gets instead of its own.

    Within a tissue the donors are put in a circle at random and each takes the profiles of the next, so each profile is
    used by one donor, and nobody keeps an own one where a tissue has two donors or more. A donor's k-th sample goes to
    the k-th of the next, beginning again where that one has fewer.
    """
    given: dict[tuple[str, str], str] = {}
    for tissue, rows in table.groupby("tissue"):
        samples = {donor: sorted(set(own)) for donor, own in rows.groupby("donor")["sample"]}
        circle = rng.generator(seed, f"null profiles/{tissue}").permutation(sorted(samples)).tolist()
        for donor, other in zip(circle, circle[1:] + circle[:1], strict=True):
            for k, sample in enumerate(samples[donor]):
                given[str(tissue), sample] = samples[other][k % len(samples[other])]
    return [given[key] for key in zip(table["tissue"], table["sample"], strict=True)]
