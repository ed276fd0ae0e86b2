from rnagan.data.loader import Replaced
from rnagan.training.corrupt_tiles import CorruptTiles, cut_back


def test_replaced_tiles_are_listed_and_cut_back(tmp_path):
    ones = [Replaced(number, "slide é", number % 7, "is damaged") for number in (3, 8, 20)]
    first, second = CorruptTiles(tmp_path, 0), CorruptTiles(tmp_path, 1)
    first.add(ones[:2])
    first.add([])
    second.add(ones[2:])
    assert (first.count, second.count) == (2, 1)
    assert first.path.read_text().count("\n") == 2 and '"number": 3' in first.path.read_text()
    with open(first.path, "a") as file:
        file.write('{"number": 9, "sl')  # by a process that was killed
    cut_back(tmp_path, 8)
    assert [path.read_text().count("\n") for path in (first.path, second.path)] == [1, 0]
    first.add(ones[1:2])
    assert first.path.read_text().splitlines() == [
        '{"number": 3, "slide": "slide \\u00e9", "tile": 3, "problem": "is damaged"}',
        '{"number": 8, "slide": "slide \\u00e9", "tile": 1, "problem": "is damaged"}',
    ]


def test_a_run_without_damage_has_no_list(tmp_path):
    CorruptTiles(tmp_path, 0).add([])
    cut_back(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
