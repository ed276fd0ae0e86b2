import pandas as pd
import pytest

from rnagan.cohort.filter import matching_rows

TABLE = pd.DataFrame(
    {
        "tissue": ["Lung", "Brain - Cortex", "Lung", "Colon"],
        "site": ["B1", "C2", "", "B1"],
        "age": ["50", "61.5", "", "70"],
    },
    index=[3, 1, 7, 9],
)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("", [3, 1, 7, 9]),
        (" ; ", [3, 1, 7, 9]),
        ("tissue=Lung", [3, 7]),
        ("tissue = Lung, Brain - Cortex", [3, 1, 7]),
        ("tissue!=Lung", [1, 9]),
        ("tissue=Lung; site=B1", [3]),
        ("site!=B1,C2", [7]),
        ("site=", [7]),
        ("age>=61.5", [1, 9]),
        ("age>61.5", [9]),
        ("age<61.5", [3]),
        ("age<=70;tissue!=Colon;", [3, 1]),
    ],
)
def test_rows_that_meet_all_conditions(where, rows):
    chosen = matching_rows(TABLE, where)
    assert chosen.dtype == bool and TABLE.index[chosen].tolist() == rows


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("Lung", "where 'Lung' is no condition such as tissue=Lung,Colon or age>=50"),
        ("=Lung", "is no condition"),
        ("tisue=Lung", "has no column tisue; it has tissue, site, age"),
        ("tissue=lung", "no row has tissue 'lung'; there are Brain - Cortex, Colon, Lung"),
        ("tissue!=lung", "no row has tissue 'lung'"),
        ("age>old", "'old' is no number"),
        ("tissue>5", "column tissue holds no numbers"),
        ("age=@__import__('os').system('x')", "no row has age"),
    ],
)
def test_what_means_nothing_is_refused(where, problem):
    with pytest.raises(ValueError, match="where ") as error:
        matching_rows(TABLE, where)
    assert problem in str(error.value) and "\n" not in str(error.value)
