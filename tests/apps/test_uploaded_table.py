"""Tables of visitors: read as others are, in the model's genes and units; wrong and hostile ones refused."""

import gzip
import threading
from pathlib import Path

import numpy as np
import pytest

from rnagan.apps import uploaded_table
from rnagan.apps.explorer_answers import ExplorerService
from rnagan.apps.guard import MAX_BODY_BYTES
from rnagan.apps.uploaded_table import MAX_BYTES, read_upload
from rnagan.latent.profiles import Profiles
from rnagan.training.tile_inputs import TileInputs
from tests.apps.made_explorer import make_service, pictures, visiting

CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def service(trained: Path, inputs: TileInputs, programmes: Path) -> ExplorerService:
    return make_service(trained, inputs, programmes)


def written(service: ExplorerService, profile: int, separator: str = ",", version: str = "", genes: int = 30) -> bytes:
    """A profile of the toy cohort as a visitor would write it."""
    vae = service.explored.vae
    assert vae is not None
    rows = zip(vae.transform.genes[:genes], service.explored.profiles.values[profile].tolist(), strict=False)
    return (
        f"gene{separator}mine\n".encode() + "".join(f"{gene}{version}{separator}{v!r}\n" for gene, v in rows).encode()
    )


@pytest.mark.parametrize(("separator", "version"), [(",", ""), ("\t", ".12"), (",", ".3")])
def test_a_profile_comes_back_as_it_was(service: ExplorerService, separator: str, version: str) -> None:
    (shown,) = read_upload(written(service, 4, separator, version), "tpm", service.explored)
    assert shown.name == "mine"
    np.testing.assert_allclose(shown.values, service.explored.profiles.values[4], rtol=1e-6)


def test_samples_may_be_rows_and_symbols_may_name_genes(service: ExplorerService) -> None:
    values = service.explored.profiles.values[:2]
    symbols = {gene: f"TOY{k}" for k, gene in enumerate(service.explored.vae.transform.genes)}  # type: ignore[union-attr]
    profiles = service.explored.profiles.__class__(
        service.explored.profiles.values, service.explored.profiles.obs, symbols, "digest"
    )
    explored = service.explored.__class__(service.explored.model, profiles, (), None)
    text = "sample," + ",".join(f"toy{k}" for k in range(30)) + "\n"
    text += "".join(f"s{k}," + ",".join(str(float(v)) for v in row) + "\n" for k, row in enumerate(values))
    shown = read_upload(text.encode(), "tpm", explored)
    assert [own.name for own in shown] == ["s0", "s1"]
    np.testing.assert_allclose(np.stack([own.values for own in shown]), values, rtol=1e-5)


def test_an_uploaded_profile_is_shown_and_is_its_owners_alone(service: ExplorerService) -> None:
    client, path = visiting(service)
    go = client.post(f"{path}/profiles?units=tpm", content=written(service, 4), headers=CSV).json()["go"]
    page = client.get(go)
    assert page.status_code == 200 and "mine" in page.text and len(pictures(page.text)) == 8
    assert len(pictures(page.text, "Real tile")) == 8 and ": the tissue that it is most like" in page.text
    again = client.post(f"{path}/profiles?units=tpm", content=written(service, 5), headers=CSV).json()["go"]
    assert again != go and client.get(go).status_code == 422  # no answer of the first is shown as the second's
    assert pictures(client.get(again).text) != pictures(page.text)
    other = client.get("/").url.path
    assert client.get(other, params={"profile": again.partition("profile=")[2]}).status_code == 422


def test_missing_genes_are_said(service: ExplorerService) -> None:
    client, path = visiting(service)
    go = client.post(f"{path}/profiles?units=tpm", content=written(service, 4, genes=18), headers=CSV).json()["go"]
    page = client.get(go).text
    assert "lacks 40% of the model&#39;s genes" in page or "lacks 40% of the model's genes" in page
    moved = client.get(go, params={"gene": "ENSG00000000025", "step": "1", "profile": go.partition("profile=")[2]})
    assert moved.status_code == 422 and "wasn&#39;t measured in this profile" in moved.text


WRONG = {
    "empty": (b"", "is empty"),
    "spaces": (b" \n\n ", "is empty"),
    "no numbers": (b"gene,a\nENSG00000000001,high\nENSG00000000002,low\n", "Your table"),
    "no genes of ours": (b"gene,a\n" + b"".join(b"ENSG9%010d,1.5\n" % k for k in range(30)), "none of the 30 genes"),
    "one column": (b"gene\nENSG00000000001\n", "Your table"),
    "a gap": (b"gene,a\nENSG00000000001,\nENSG00000000002,2.5\n", "Your table"),
    "negative": (b"gene,a\nENSG00000000001,-5\nENSG00000000002,2.5\n", "Your table"),
    "a sample twice": (b"gene,a,a\nENSG00000000001,1,2\nENSG00000000002,2,1\n", "more than once"),
    "zip": (b"PK\x03\x04" + bytes(100), "Excel or ZIP"),
    "gzip": (gzip.compress(b"gene,a\nENSG00000000001,1\n"), "gzipped"),
    "pickle": (b"cos\nsystem\n(S'id'\ntR.", "Your table"),
    "bytes": (bytes(range(256)) * 10, "Your table"),
    "many samples": (
        b"gene," + b",".join(b"s%d" % k for k in range(21)) + b"\nENSG00000000001" + b",1" * 21,
        "more than 20",
    ),
    "html": (b"<html><script>alert(1)</script>,\n1,2\n", "Your table"),
}


@pytest.mark.attack(kind=10)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_refused_in_one_sentence(service: ExplorerService, name: str, tmp_path: Path) -> None:
    data, said = WRONG[name]
    client, path = visiting(service)
    answer = client.post(f"{path}/profiles?units=tpm", content=data, headers=CSV)
    assert answer.status_code == 422, answer.text
    sentence = answer.json()["said"]
    assert said in sentence and "/tmp" not in sentence and "\n" not in sentence and "--" not in sentence, sentence
    assert client.get(path).status_code == 200


@pytest.mark.attack(kind=10)
def test_a_large_table_is_refused_before_it_is_read(service: ExplorerService, monkeypatch: pytest.MonkeyPatch) -> None:
    client, path = visiting(service)
    large = b"x" * (MAX_BYTES + 1)
    assert client.post(f"{path}/profiles", content=large, headers=CSV).status_code == 413
    assert client.post(f"{path}/profiles", content=iter([large]), headers=CSV).status_code == 413
    assert client.post(f"{path}/answer", content=b"x" * (MAX_BODY_BYTES + 1), headers=CSV).status_code == 413
    with pytest.raises(ValueError, match="are read; keep a few samples"):
        read_upload(large, "", service.explored)
    wide = b"gene," + b"x," * (uploaded_table.MAX_GENES + 1) + b"\nENSG00000000001,1\n"
    with pytest.raises(ValueError, match="has a line of more than 100,000 cells"):
        read_upload(wide, "tpm", service.explored)
    monkeypatch.setattr(uploaded_table, "MAX_GENES", 29)
    with pytest.raises(ValueError, match="more than 29 genes"):
        read_upload(written(service, 0), "tpm", service.explored)


@pytest.mark.attack(kind=10)
def test_a_large_body_to_no_visit_is_refused(service: ExplorerService) -> None:
    client, path = visiting(service)
    large = b"x" * (MAX_BODY_BYTES + 1)
    assert client.post(f"{path}/profiles", content=large, headers=CSV).status_code == 422
    for other in ("/e/" + "a" * 32 + "/profiles", "/profiles", path.removeprefix("/e") + "/profiles"):
        assert client.post(other, content=large, headers=CSV).status_code == 413


@pytest.mark.attack(kind=10, ends="unharmed")
def test_nobody_waits_for_a_table_and_no_table_for_the_network(service: ExplorerService) -> None:
    client, path = visiting(service)
    go, begun = threading.Event(), threading.Event()
    service._queue.submit("nobody", "stands still", lambda: (begun.set(), go.wait(60)))
    try:
        assert begun.wait(60)
        assert client.post(f"{path}/profiles?units=tpm", content=written(service, 4), headers=CSV).status_code == 200
    finally:
        go.set()


def test_a_symbol_of_several_genes_names_none_of_them(service: ExplorerService) -> None:
    vae, values = service.explored.vae, service.explored.profiles.values
    assert vae is not None
    symbols = {gene: "TWICE" if k < 2 else f"TOY{k}" for k, gene in enumerate(vae.transform.genes)}
    profiles = Profiles(values, service.explored.profiles.obs, symbols, "digest")
    explored = service.explored.__class__(service.explored.model, profiles, (), None)
    rows = [("twice", 5.0), *((f"toy{k}", float(values[0, k])) for k in range(2, 30))]
    table = "gene,mine\n" + "".join(f"{name},{value!r}\n" for name, value in rows)
    (shown,) = read_upload(table.encode(), "tpm", explored)
    assert np.isnan(shown.values).nonzero()[0].tolist() == [0, 1]


@pytest.mark.attack(kind=10)
def test_an_upload_of_another_site_or_kind_is_refused(service: ExplorerService) -> None:
    client, path = visiting(service)
    assert client.post(f"{path}/profiles", content=b"a", headers={"Content-Type": "text/plain"}).status_code == 415
    form = {"files": {"file": ("../../x.csv", b"gene,a\n")}}
    assert client.post(f"{path}/profiles", **form).status_code == 415
    other = CSV | {"Origin": "http://evil.example"}
    assert client.post(f"{path}/profiles", content=b"a", headers=other).status_code == 403
    wrong = client.post(f"{path}/profiles?units=furlongs", content=written(service, 0), headers=CSV)
    assert wrong.status_code == 422 and "The units are TPM" in wrong.json()["said"]
