"""What the tests of profile shards share: small .h5ad files and the folders made of them."""

import numpy as np
import pandas as pd

from rnagan.data.build_profiles import build_profiles
from rnagan.data.profile_shards import open_profile_set
from rnagan.expression.h5ad import Expression, write_expression

GENES = [f"ENSG{n:011d}.{n % 5}" for n in range(13)]
SYMBOLS = [f"G{n}" for n in range(13)]
ODD = np.array([-0.0, 1e-45, np.float32(1.1754942e-38), 3.4028235e38, -1.5], np.float32)


def make_expression(count, first=0, units="tpm", genes=GENES):
    """Profiles of samples `first` …, ids with dots, in an order that isn't theirs; the values tell sample and gene."""
    numbers = np.random.default_rng(count).permutation(np.arange(first, first + count))
    samples = [f"GTEX-{n:04d}-0226-SM-{n % 7}.1" for n in numbers]
    values = (numbers[:, None] * 100 + np.arange(len(genes))).astype(np.float32)
    values[:, :5] = np.where((numbers % 3 == 0)[:, None], ODD, values[:, :5])
    splits = ["test" if n % 4 == 3 else "train" for n in numbers]
    obs = pd.DataFrame({"donor": samples, "tissue": "lung", "split": splits}, index=samples)
    return Expression(values, obs, list(genes), [f"G{n}" for n in range(len(genes))], units)


def write(folder, name, expression):
    path = folder / name
    write_expression(path, expression, "digest")
    return path


def make_set(folder, count, per_shard=8, seed=0):
    """The expression, and the opened set of its profiles."""
    expression = make_expression(count)
    build_profiles(write(folder, f"e{count}.h5ad", expression), folder / "profiles", per_shard, seed)
    return expression, open_profile_set(folder / "profiles")


def bits(values):
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
