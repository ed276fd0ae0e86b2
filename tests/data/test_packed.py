import pickle

import numpy as np
import torch

from rnagan.data.packed import Layout, Packed, Row

ROWS = {
    "items": Row((5, 3), torch.uint8),
    "places": Row((2,), torch.int64),
    "nothing": Row((0,), torch.float32),
    "noise": Row((7,), torch.float32),
    "exact": Row((), torch.float64),
}


def test_fields_share_one_memory_and_not_a_byte_of_it() -> None:
    packed = Packed.empty(Layout(3, ROWS))
    packed.memory.zero_()
    for k, (name, row) in enumerate(ROWS.items(), 1):
        field = packed.field(name)
        assert field.shape == (3, *row.shape) and field.dtype == row.dtype and field.is_contiguous()
        assert field.untyped_storage().data_ptr() == packed.memory.untyped_storage().data_ptr()
        field.fill_(k)
    assert all((packed.field(name) == k).all() for k, name in enumerate(ROWS, 1))
    packed.field("noise").numpy()[1] = 9
    assert packed.field("noise")[1].eq(9).all() and packed.field("noise")[2].eq(4).all()


def test_it_goes_to_another_process_and_to_a_device_whole() -> None:
    packed = Packed.empty(Layout(4, ROWS))
    packed.memory.copy_(torch.from_numpy(np.random.default_rng(0).integers(0, 256, packed.memory.shape, np.uint8)))
    for other in (pickle.loads(pickle.dumps(packed)), packed.to(torch.device("cpu"))):
        assert torch.equal(other.memory, packed.memory) and torch.equal(other.field("places"), packed.field("places"))
