from rnagan.comparison.grids import count_title, nearest_counts


def test_runs_that_save_alike_are_shown_at_the_same_counts() -> None:
    counts = list(range(1000, 11000, 1000))
    found = nearest_counts({"a": counts, "b": counts[:7]}, most=3)
    assert found == [{"a": n, "b": n} for n in (1000, 4000, 7000)]


def test_runs_that_save_at_other_counts_are_shown_at_the_nearest() -> None:
    found = nearest_counts({"a": [1000, 2000, 3000], "b": [640, 1280, 1920, 2560, 3200]})
    assert found == [{"a": 2000, "b": 1920}, {"a": 3000, "b": 3200}]  # 1000 and 1280 are no match
    assert count_title(found[0]) == "1,920 to 2,000 images" and count_title({"a": 8, "b": 8}) == "8 images"


def test_runs_that_have_no_count_near_are_shown_at_the_closest() -> None:
    assert nearest_counts({"a": [1000, 8000], "b": [100, 300]}) == [{"a": 1000, "b": 300}]
    assert nearest_counts({"a": [8], "b": []}) == [] and nearest_counts({}) == []
