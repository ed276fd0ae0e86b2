"""What each process and worker reads, over sizes, caps, weights, batch sizes, processes, workers, resume points."""

from itertools import islice
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from rnagan.data import loader
from rnagan.data.selection import Selection, make_order

STAGES = st.lists(  # of a run that is stopped and goes on: batches, processes, tiles a process and batch, workers
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 3)), min_size=1, max_size=4
)


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    """Slides of two tissues, which have from 1 to 12 tiles, of which at most so many are used."""
    tiles, cap = np.array(draw(st.lists(st.integers(1, 12), min_size=2, max_size=10))), draw(st.integers(1, 12))
    tissues = ["a", "b", *draw(st.lists(st.sampled_from("ab"), min_size=len(tiles) - 2, max_size=len(tiles) - 2))]
    return Selection(pd.DataFrame({"tissue": tissues}), tiles.clip(max=cap), {})


WEIGHTS = st.one_of(st.none(), st.fixed_dictionaries({"a": st.integers(1, 5), "b": st.integers(0, 5)}))


def ordered(selection, seed, window, weights):
    text = "natural" if weights is None else ",".join(f"{name}={weight}" for name, weight in weights.items())
    return make_order(selection, seed, window, tissue_weights=text)


def planned(order, start, batches, processes, share, workers):
    """The batches of each process, put together from its workers' as torch does: one of each in turn."""
    by_process = []
    for rank in range(processes):
        plans = []
        for worker in range(workers or 1):
            info = SimpleNamespace(id=worker, num_workers=workers) if workers else None
            # Few images are located at a time, so that batches lie beyond the first of such pieces too.
            with mock.patch.multiple(loader, get_worker_info=lambda info=info: info, IMAGES_LOCATED=30):
                own = loader._plans(order, start, processes * share, rank, processes)
                plans.append(list(islice(own, -(-batches // max(1, workers)))))
        by_process.append([plans[n % len(plans)][n // len(plans)] for n in range(batches)])
    return by_process


@given(selections(), WEIGHTS, STAGES, st.integers(1, 8), st.integers(0, 3), st.integers(0, 60))
@settings(deadline=None, max_examples=100)
def test_however_it_is_shared_and_resumed_the_sequence_is_one(selection, weights, stages, window, seed, start):
    order = ordered(selection, seed, window, weights)
    at, read = start, []
    for batches, processes, share, workers in stages:
        by_process = planned(order, at, batches, processes, share, workers)
        assert {len(plan.tiles) for plans in by_process for plan in plans} == {share}  # equal counts
        for b in range(batches):
            for rank, plans in enumerate(by_process):
                assert plans[b].start == at + (b * processes + rank) * share
                read.append(plans[b].tiles)
        at += batches * processes * share
    read = np.concatenate(read)
    np.testing.assert_array_equal(read, ordered(selection, seed, window, weights).locate(start, at - start))


@given(selections(), WEIGHTS, st.integers(1, 4), st.integers(1, 6), st.integers(0, 3), st.integers(1, 8))
@settings(deadline=None, max_examples=100)
def test_a_pass_is_the_selection_without_repeats(selection, weights, processes, share, workers, window):
    order = ordered(selection, 0, window, weights)
    batches = -(-3 * selection.counts.sum() // (processes * share))
    by_process = planned(order, 0, int(batches), processes, share, workers)
    read = [tuple(tile) for b in range(batches) for plans in by_process for tile in plans[b].tiles.tolist()]
    tissues = selection.table["tissue"]
    for passed in [{"a", "b"}] if weights is None else [{name} for name, weight in weights.items() if weight]:
        every = {(s, k) for s, n in enumerate(selection.counts) for k in range(n) if tissues[s] in passed}
        own = [tile for tile in read if tissues[tile[0]] in passed]
        for first in range(0, len(own), len(every)):
            one_pass = own[first : first + len(every)]
            assert len(set(one_pass)) == len(one_pass) and set(one_pass) <= every
            assert len(one_pass) < len(every) or set(one_pass) == every
