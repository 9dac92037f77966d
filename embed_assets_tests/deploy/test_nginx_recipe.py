"""deploy/nginx.conf in a real nginx: who gets through to Dagster, and who does not."""

import base64
import socket
import ssl
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from embed_assets_tests.deploy.servers import (
    NAME,
    NGINX,
    OPENSSL,
    Upstream,
    dagster_webserver,
    graphql,
    nginx,
    upstream,
)

pytestmark = pytest.mark.skipif(
    NGINX is None or OPENSSL is None,
    reason="needs nginx and openssl: apt-get install nginx-light openssl",
)

ADA = {"Authorization": "Basic " + base64.b64encode(b"ada:lovelace").decode()}
EVE = {"Authorization": "Basic " + base64.b64encode(b"ada:guess").decode()}
WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
MUTATION = "/graphql?query=" + quote("mutation{wipeAssets(assetPartitionRanges:[]){__typename}}")

#: Method, path, headers (PORT is nginx's) -> status.
CASES: dict[str, tuple[str, str, dict[str, str], int]] = {
    "a page": ("GET", "/assets", ADA, 200),
    "a page, linked from elsewhere": (
        *("GET", "/runs/1", ADA | {"Referer": "https://chat.example/"}),
        200,
    ),
    "a query by POST": ("POST", "/graphql", ADA | {"Origin": f"http://{NAME}:PORT"}, 200),
    "a named query by POST": (
        "POST",
        "/graphql?op=x",
        ADA | {"Origin": f"http://{NAME}:PORT"},
        200,
    ),
    "a query from a script": ("POST", "/graphql", ADA, 200),
    "no password": ("GET", "/", {}, 401),
    "no password, a query": ("POST", "/graphql", {}, 401),
    "no password, a websocket": ("GET", "/graphql", WEBSOCKET, 401),
    "a wrong password": ("POST", "/graphql", EVE, 401),
    "a mutation by GET": ("GET", MUTATION, ADA, 405),
    "a mutation by GET, asking for HTML": ("GET", MUTATION, ADA | {"Accept": "text/html"}, 405),
    "a mutation by HEAD": ("HEAD", MUTATION, ADA, 405),
    "a mutation by GET as a websocket": ("GET", MUTATION, ADA | WEBSOCKET, 405),
    "a mutation by PUT": ("PUT", "/graphql", ADA, 405),
    **{
        f"a mutation by GET to {path}": ("GET", MUTATION.replace("/graphql", path), ADA, 405)
        for path in ("/%67raphql", "//graphql", "/./graphql", "/x/../graphql", "/graphql#")
    },
    **{
        f"a POST from {origin}": ("POST", "/graphql", ADA | {"Origin": origin}, 403)
        for origin in (
            "https://evil.example",
            "null",
            f"https://{NAME}:PORT",
            f"http://{NAME}",
            f"http://{NAME}:PORT.evil.example",
            f"http://evil.example http://{NAME}:PORT",
            f"http://{NAME.replace('.', 'x')}:PORT",
        )
    },
    "a form from elsewhere": (
        *("POST", MUTATION, ADA | {"Origin": "https://evil.example", "Content-Type": "text/plain"}),
        403,
    ),
    "an asset reported from elsewhere": (
        *("POST", "/report_asset_materialization/x", ADA | {"Origin": "https://evil.example"}),
        403,
    ),
    "a preflight from elsewhere": (
        *("OPTIONS", "/graphql", ADA | {"Origin": "https://evil.example"}),
        403,
    ),
    "a websocket from elsewhere": (
        *("GET", "/graphql", ADA | WEBSOCKET | {"Origin": "https://evil.example"}),
        403,
    ),
    "another host": ("GET", "/", ADA | {"Host": "evil.example"}, 421),
    "another host, with its origin": (
        *("POST", "/graphql", ADA | {"Host": "evil.example", "Origin": "http://evil.example"}),
        421,
    ),
    "the address": ("GET", "/", ADA | {"Host": "127.0.0.1:PORT"}, 421),
    "localhost": ("POST", "/graphql", ADA | {"Host": "localhost"}, 421),
    "a large body": ("POST", "/graphql", ADA | {"Content-Length": str(2 << 20)}, 413),
}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Upstream]:
    with upstream() as found:
        yield found


@pytest.fixture(scope="module")
def port(stand_in: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with nginx(tmp_path_factory.mktemp("nginx"), stand_in.port) as port:
        yield port


def here(headers: dict[str, str], port: int) -> dict[str, str]:
    """Headers of a request to the recipe's host, on the port that stands in for 80."""
    named = {"Host": f"{NAME}:PORT"} | headers
    return {name: value.replace("PORT", str(port)) for name, value in named.items()}


@pytest.mark.parametrize("name", CASES)
def test_only_whom_the_recipe_means_gets_through(port: int, stand_in: Upstream, name: str) -> None:
    method, path, headers, expected = CASES[name]
    stand_in.seen.clear()
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers=here(headers, port))
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == expected
    assert (body == b"ok", len(stand_in.seen)) == (expected == 200, int(expected == 200))
    if expected == 401:
        assert response.headers["WWW-Authenticate"] == 'Basic realm="Dagster"'
    if expected == 200:
        assert response.headers["X-Frame-Options"] == "DENY"
        assert stand_in.seen[0][:2] == (method, path)


def test_dagster_learns_the_host_but_not_the_password(port: int, stand_in: Upstream) -> None:
    stand_in.seen.clear()
    status, _ = raw(port, "POST", ADA | {"Content-Length": "0"})
    assert status == 200
    ((_, _, headers),) = stand_in.seen
    assert headers["Host"] == f"{NAME}:{port}"
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert "Authorization" not in headers
    assert "Upgrade" not in headers


def raw(port: int, method: str, headers: dict[str, str], data: bytes = b"") -> tuple[int, bytes]:
    """Status of /graphql and the last bytes that came, over a bare socket."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in here(headers, port).items())
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{method} /graphql HTTP/1.1\r\n{lines}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(4096)
        connection.sendall(data)
        while data and not answer.endswith(data.upper()):
            answer += connection.recv(4096)
    return int(answer.split()[1]), answer[-len(data) :]


@pytest.mark.parametrize("origin", [{}, {"Origin": f"http://{NAME}:PORT"}])
def test_a_websocket_gets_through_and_carries_data(
    port: int, stand_in: Upstream, origin: dict[str, str]
) -> None:
    stand_in.seen.clear()
    assert raw(port, "GET", ADA | WEBSOCKET | origin, b"ping") == (101, b"PING")
    ((method, path, headers),) = stand_in.seen
    assert (method, path, headers["Upgrade"]) == ("GET", "/graphql", "websocket")


def test_a_request_without_a_host_is_refused(port: int, stand_in: Upstream) -> None:
    stand_in.seen.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(4096).split()[1] == b"421"
    assert stand_in.seen == []


def test_with_the_lines_for_tls_the_origin_must_be_https(
    stand_in: Upstream, tmp_path: Path
) -> None:
    assert OPENSSL is not None
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    names = ["-addext", f"subjectAltName=DNS:{NAME}"]
    files = ["-keyout", str(tmp_path / "tls.key"), "-out", str(tmp_path / "tls.pem")]
    subprocess.run([OPENSSL, *made, *names, *files], check=True, capture_output=True)
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))

    with nginx(tmp_path, stand_in.port, tls=tmp_path / "tls") as port:
        for scheme, expected in (("https", 200), ("http", 403)):
            connection = HTTPSConnection(NAME, port, timeout=20, context=trust)
            plain = socket.create_connection(("127.0.0.1", port), timeout=20)
            connection.sock = trust.wrap_socket(plain, server_hostname=NAME)
            origin = {"Origin": f"{scheme}://{NAME}:{port}"}
            connection.request("POST", "/graphql", headers=here(ADA | origin, port))
            response = connection.getresponse()
            response.read()
            connection.close()
            assert response.status == expected
            if expected == 200:
                assert "max-age" in response.headers["Strict-Transport-Security"]
        # Another name gets no certificate at all.
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            pytest.raises(ssl.SSLError),
        ):
            trust.wrap_socket(plain, server_hostname="evil.example")


@pytest.mark.slow
def test_before_the_real_web_server_mutations_come_by_post_alone(tmp_path: Path) -> None:
    from websockets.sync.client import connect
    from websockets.typing import Origin, Subprotocol

    limit = 'instance{concurrencyLimit(concurrencyKey:"KEY"){slotCount}}'
    change = 'mutation{setConcurrencyLimit(concurrencyKey:"KEY",limit:1)}'

    def slots(key: str) -> int:
        _, answer = graphql(dagster, "{" + limit.replace("KEY", key) + "}")
        return int(answer["data"]["instance"]["concurrencyLimit"]["slotCount"])

    def get(at: int, key: str, headers: dict[str, str]) -> int:
        connection = HTTPConnection("127.0.0.1", at, timeout=60)
        query = quote(change.replace("KEY", key))
        connection.request("GET", f"/graphql?query={query}", headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status

    with dagster_webserver(tmp_path) as dagster, nginx(tmp_path, dagster) as port:
        # What the recipe is for: a GET with any Host header changes the instance.
        assert get(dagster, "direct", {"Host": "evil.example"}) == 200
        assert slots("direct") == 1
        ours = here(ADA | {"Origin": f"http://{NAME}:PORT"}, port)
        foreign = ours | {"Origin": "https://evil.example"}
        assert get(port, "get", ours) == 405
        assert graphql(port, change.replace("KEY", "foreign"), foreign)[0] == 403
        assert (slots("get"), slots("foreign")) == (0, 0)
        status, answer = graphql(port, change.replace("KEY", "ours"), ours)
        assert (status, answer["data"]) == (200, {"setConcurrencyLimit": True})
        assert slots("ours") == 1

        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            connect(
                f"ws://{NAME}:{port}/graphql",
                sock=plain,
                origin=Origin(f"http://{NAME}:{port}"),
                subprotocols=[Subprotocol("graphql-ws")],
                additional_headers=ADA,
            ) as live,
        ):
            live.send('{"type": "connection_init", "payload": {}}')
            assert "connection_ack" in str(live.recv(timeout=20))
