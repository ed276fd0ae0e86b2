import threading

import numpy as np
import torch

from rnagan.data.loader import BatchMemory


def test_memory_comes_back_when_the_last_that_shares_it_is_gone():
    memory = BatchMemory((4, 8, 8, 3), keep=2)
    first = memory.take()
    assert first.shape == (4, 8, 8, 3) and first.dtype == torch.uint8
    place = first.data_ptr()
    part = first.permute(0, 3, 1, 2)[1:].numpy()
    del first
    assert memory.take().data_ptr() != place  # a part of it is still in use
    del part
    again = [memory.take() for _ in range(2)]
    assert place in [tensor.data_ptr() for tensor in again]
    assert len({tensor.data_ptr() for tensor in again}) == 2


def test_memory_is_of_the_dtype_asked_for_and_fresh_memory_does_not_come_back():
    memory = BatchMemory((3, 5), keep=2, dtype=np.float32)
    assert memory.take().dtype == memory.fresh().dtype == torch.float32 and memory.fresh().shape == (3, 5)
    assert len(memory._free) == 1


def test_no_more_than_asked_for_is_kept():
    memory = BatchMemory((1000,), keep=2)
    lent = [memory.take() for _ in range(5)]
    assert len({tensor.data_ptr() for tensor in lent}) == 5
    del lent
    assert len(memory._free) == 2


def test_it_may_come_back_in_another_thread():
    memory = BatchMemory((1000,), keep=1)
    lent = [memory.take()]
    thread = threading.Thread(target=lent.clear)
    thread.start()
    thread.join()
    assert len(memory._free) == 1
