"""What an HDF5 file may do to its reader: nothing but hold values. Asked before any value is read."""

import math
from pathlib import Path

import h5py
import psutil

from rnagan.io.bounds import MAX_HDF5_BYTES, MAX_HDF5_RATIO

_FLOAT32 = 4  # bytes of a value of X in memory


class RefusedHDF5(ValueError):  # noqa: N818
    """A file that `check_hdf5` or `check_memory` refuses; a sentence with its name."""


def check_readable(path: Path) -> None:
    """Raise the system's own `OSError` where it doesn't let a file be read: HDF5's doesn't tell that from damage."""
    with open(path, "rb"):
        pass


def check_hdf5(path: Path) -> None:
    """Refuse a file that leads to others (links, virtual data sets, values kept outside), or that claims values far
    beyond what it stores. Raises `RefusedHDF5`; `OSError` where it is no HDF5."""
    with h5py.File(path, "r") as file:
        groups: list[h5py.Group] = [file]
        seen = {h5py.h5o.get_info(file.id).addr}
        while groups:
            group = groups.pop()
            for name in group:
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise _leads_out(path, f"{group.name}/{name}")
                if isinstance(link, h5py.SoftLink):
                    continue  # to a place in this file, which is looked at itself
                item = group[name]
                if (address := h5py.h5o.get_info(item.id).addr) in seen:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    _check_values(path, item)


def check_memory(path: Path) -> None:
    """Refuse an .h5ad whose X, as a table of float32, is larger than this machine's memory, with `RefusedHDF5`."""
    with h5py.File(path, "r") as file:
        x = file.get("X")
        shape: list[int] = []
        if isinstance(x, h5py.Dataset):
            shape = list(x.shape or ())
        elif x is not None:
            shape = [int(n) for n in x.attrs.get("shape", ())]  # of a sparse one
        needed, there = _FLOAT32 * math.prod(shape), psutil.virtual_memory().total
        if needed > there:
            raise RefusedHDF5(
                f"{path} has {' × '.join(f'{n:,}' for n in shape)} values in X, which need "
                f"{needed / 2**30:,.0f} GiB of memory, and this machine has {there / 2**30:,.0f}; split it."
            )


def _check_values(path: Path, values: h5py.Dataset) -> None:
    if values.is_virtual or values.external:
        raise _leads_out(path, values.name)
    if values.shape is None:
        return
    claimed, stored = math.prod(values.shape) * values.dtype.itemsize, values.id.get_storage_size()
    if claimed > max(MAX_HDF5_BYTES, MAX_HDF5_RATIO * stored):
        raise RefusedHDF5(
            f"{path} claims {' × '.join(f'{n:,}' for n in values.shape)} values in {values.name}, and stores "
            f"{stored:,} bytes of them; write it anew."
        )


def _leads_out(path: Path, name: str) -> RefusedHDF5:
    return RefusedHDF5(f"{path} leads to another file at {name.replace('//', '/')}; copy its values into this one.")
