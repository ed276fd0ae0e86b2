import pytest

from rnagan.cohort.table import read_cohort


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sample,donor,tissue,split,slide\n", "has no column site; it has sample, donor"),
        (
            "sample,donor,tissue,split,slide,site\na,d,t,train,,\nb,d,t,test,,\n",
            "has a donor in two splits .d.; training would see",
        ),
        ("sample,donor,tissue,split,slide,site\na,d,t,train,w,\nb,e,t,test,w,\n", "has a slide in two splits .w."),
        (
            "sample,donor,tissue,split,slide,site,image_donor\na,d,t,train,w,,i\nb,e,t,test,v,,i\n",
            "has a image_donor in two splits .i.",
        ),
        ("sample,donor,tissue,split,slide,site\na,d,t,train,w,\na,d,t,train,w,\n", "has sample a with slide w twice"),
        ("sample,donor,tissue,split,slide,site\na,d,t,train,../w,\n", "can't name a shard"),
        (
            "sample,donor,tissue,split,slide,site\na,d,t,holdout,,\n",
            "has split 'holdout'; it must be one of train, validation, test",
        ),
        ("sample,donor,tissue,split,slide,site\na,,t,test,,\n", "has rows without a donor .line 2."),
        ("", "is no readable comma-separated table"),
    ],
)
def test_bad_cohort_tables(tmp_path, text, sentence):
    (tmp_path / "cohort.csv").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_cohort(tmp_path / "cohort.csv")
