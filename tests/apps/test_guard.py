"""What stands before the pages, attacked: hosts, forms of other sites, large bodies, many requests, guesses."""

import base64
import socket
import threading
from pathlib import Path

import httpx
import pytest

from rnagan.apps.guard import MAX_BODY_BYTES
from rnagan.apps.limits import Buckets
from rnagan.apps.shell import Address, Shell, server_of
from tests.apps.made_study import ADMIN, game, study

pytestmark = pytest.mark.attack(kind=10)


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example:8000"])
def test_a_name_that_is_not_ours_is_refused(tmp_path: Path, host: str) -> None:
    client, _, _ = game(tmp_path)
    assert client.get("/", headers={"Host": host}).status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1:8000"}).status_code == 200
    assert client.get("/", headers={"Host": "[::1]:8000"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": ""}],
)
def test_a_form_of_another_site_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    client, _, database = game(tmp_path)
    assert client.post("/games", data={}, headers=headers).status_code == 403
    assert database.count_readers() == 0
    own = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/games", data={"a": ""}, headers=own).status_code == 200


def test_a_large_body_is_refused_whatever_it_says_of_its_length(tmp_path: Path) -> None:
    client, links, _ = study(tmp_path)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    large = b"text=" + b"x" * MAX_BODY_BYTES
    assert client.post(f"{links[0]}/answers/x", content=large, headers=kind).status_code == 413
    assert client.post(f"{links[0]}/answers/x", content=iter([large]), headers=kind).status_code == 413
    assert (
        client.post(f"{links[0]}/answers/x", content=b"a=1", headers=kind | {"Content-Length": "-1"}).status_code == 400
    )


@pytest.mark.parametrize("body", [b"a=%ff%fe&b=%zz", b"\xff\xfe", b"&".join(b"a%d=1" % k for k in range(99))])
def test_a_form_that_can_not_be_read_is_refused(tmp_path: Path, body: bytes) -> None:
    client, links, _ = study(tmp_path)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post(f"{links[0]}/answers/x", content=body, headers=kind).status_code in (400, 404)
    upload = {"files": {"file": ("x.pickle", b"cos\nsystem\n(S'id'\ntR.")}}
    assert client.post(f"{links[0]}/answers/x", **upload).status_code == 415


def test_guesses_of_links_are_slowed_down_and_say_nothing(tmp_path: Path) -> None:
    client, links, _ = study(tmp_path, clock=lambda: 0.0)
    statuses = [client.get(f"/r/guess{k}").status_code for k in range(40)]
    assert statuses == [404] * 30 + [429] * 10
    assert client.get(links[0]).status_code == 200  # who has a link is not kept out by others


@pytest.mark.parametrize(
    "path",
    ["/static/../shell.py", "/static/%2e%2e%2fshell.py", "/static/..%2f..%2f..%2fetc%2fpasswd", "/tiles.json", "/docs"],
)
def test_no_path_leads_out_of_what_is_served(tmp_path: Path, path: str) -> None:
    client, links, tiles = study(tmp_path)
    for start in ("", links[0], f"{links[0]}/tiles"):
        assert client.get(start + path).status_code == 404
    name = next(iter(tiles.tiles))
    assert client.get(f"{links[0]}/tiles/{name}.png").status_code == 404  # nor by the name in the folder


def test_the_admin_token_is_asked_for_and_not_guessed(tmp_path: Path) -> None:
    client, _, _ = study(tmp_path, clock=lambda: 0.0)
    assert client.get("/admin").status_code == 401
    assert client.get("/admin", headers=basic(ADMIN)).status_code == 200
    for wrong in ({"Authorization": "Basic %%%"}, {"Authorization": "Bearer x"}, basic(""), basic(ADMIN + "x")):
        assert client.get("/admin/answers.csv", headers=wrong).status_code == 401
        assert client.post("/admin/readers", data={"names": "a"}, headers=wrong).status_code == 401
    statuses = [client.get("/admin", headers=basic(f"guess{k}")).status_code for k in range(40)]
    assert statuses[-1] == 429 and client.get("/admin", headers=basic(ADMIN)).status_code == 429


def test_a_flood_is_answered_with_429(tmp_path: Path) -> None:
    client, _, _ = game(tmp_path, rate=1, clock=lambda: 0.0)
    statuses = [client.get("/").status_code for _ in range(12)]
    assert statuses[0] == 200 and statuses[-1] == 429


def test_more_connections_than_there_is_room_for_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnagan.apps.shell.MAX_CONNECTIONS", 2)
    server = server_of(Shell(Address(), ()))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=server.run, args=([listening],))
        running.start()
        place = listening.getsockname()
        try:
            assert httpx.get(f"http://127.0.0.1:{place[1]}/favicon.ico").status_code == 204
            with socket.create_connection(place), socket.create_connection(place):
                assert httpx.get(f"http://127.0.0.1:{place[1]}/favicon.ico").status_code == 503
        finally:
            server.should_exit = True
            running.join(60)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(tmp_path: Path, method: str) -> None:
    client, links, _ = study(tmp_path)
    assert client.request(method, links[0]).status_code == 405
    assert client.get("/" + "a" * 2000).status_code == 414


@pytest.mark.attack(kind=10, ends="unharmed")
def test_buckets_fill_again_and_stay_few() -> None:
    now = [0.0]
    buckets = Buckets(rate=1, burst=2, keys=3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    assert buckets.is_empty("a") and not buckets.is_empty("b")
    now[0] = 1.0
    assert buckets.take("a") and not buckets.take("a")
    for k in range(100):
        buckets.take(str(k))
    assert len(buckets._left) == 3


@pytest.mark.parametrize(("host", "token"), [("0.0.0.0", None), ("192.168.0.5", None), ("::", None), ("x.org", None)])
def test_other_machines_need_a_token(host: str, token: str | None) -> None:
    with pytest.raises(ValueError, match="lets other machines in; give --admin-token"):
        Address(host, admin_token=token)
    with pytest.raises(ValueError, match="16 are needed"):
        Address(host, admin_token="short")
    assert Address(host, admin_token="x" * 16).hosts >= {host}
    for local in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        assert Address(local).admin_token is None and len(Address(local).with_token().admin_token or "") >= 16
