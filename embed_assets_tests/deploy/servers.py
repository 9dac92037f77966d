"""Real servers for the tests of deploy/: nginx with the recipe, Dagster's own, and a stand-in."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).parent.parent.parent
NAME = "dagster.example.com"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
OPENSSL = shutil.which("openssl")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(arguments: list[str], port: int, log: Path, **environment: str) -> Iterator[None]:
    """A server of its own, with all it starts; ready when its port answers."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            arguments,
            cwd=log.parent,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise AssertionError(f"nothing listens on {port}: {log.read_text()}")
        yield
    finally:
        server.terminate()
        # A code server waits for its runs.
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        # Dagster's web server has a code server below it.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def recipe(port: int, upstream: int, password: Path, tls: Path | None = None) -> str:
    """deploy/nginx.conf with this machine's ports and paths; with `tls`, as its comments say."""
    text = (ROOT / "deploy/nginx.conf").read_text()
    if tls is not None:
        text = re.sub(r"^ *listen 80\b.*\n", "", text, flags=re.M)
        text, n = re.subn(r"^( *)# (listen|ssl_|add_header)", r"\1\2", text, flags=re.M)
        assert n == 7
    for there, here in {
        rf"listen {80 if tls is None else 443}\b": f"listen 127.0.0.1:{port}",
        r"127\.0\.0\.1:3000": f"127.0.0.1:{upstream}",
        r"auth_basic_user_file .*;": f"auth_basic_user_file {password};",
        **({r"/etc/ssl/\w+/dagster": str(tls)} if tls else {}),
    }.items():
        text, n = re.subn(there, here, text)
        assert n > 0, there
    return text


@contextmanager
def nginx(folder: Path, upstream: int, tls: Path | None = None) -> Iterator[int]:
    """nginx before an upstream port; the password of ada is lovelace. Gives nginx's own port."""
    assert NGINX is not None
    assert OPENSSL is not None
    port = free_port()
    hashed = subprocess.check_output([OPENSSL, "passwd", "-apr1", "lovelace"], text=True)
    (folder / "htpasswd").write_text(f"ada:{hashed}")
    (folder / "dagster.conf").write_text(recipe(port, upstream, folder / "htpasswd", tls))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} include {folder}/dagster.conf; }}\n"
    )
    arguments = [NGINX, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with process(arguments, port, folder / "nginx.log"):
        yield port


@dataclass
class Upstream:
    """A server in Dagster's place: says 200 to all, takes websockets, notes what came."""

    port: int = 0
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """The stand-in, on a port of its own."""
    found = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            found.seen.append((self.command, self.path, {**self.headers}))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Upgrade") == "websocket":
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.end_headers()
                self.wfile.write(self.rfile.read(4).upper())
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = do_HEAD = do_OPTIONS = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.port = server.server_address[1]
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()


@contextmanager
def dagster_webserver(folder: Path) -> Iterator[int]:
    """This project's web server as it is without --read-only, over an empty instance."""
    port = free_port()
    program = str(Path(sys.executable).parent / "dagster-webserver")
    arguments = [program, "-w", str(ROOT / "workspace.yaml"), "-p", str(port)]
    home = folder / "home"
    home.mkdir()
    with process(arguments, port, folder / "webserver.log", DAGSTER_HOME=str(home)):
        yield port


def graphql(
    port: int, query: str, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Status and answer of a query or mutation sent as the UI sends it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"query": query})
    sent = {"Content-Type": "application/json", **(headers or {})}
    connection.request("POST", "/graphql", body, sent)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    is_json = response.headers.get_content_type() == "application/json"
    return response.status, json.loads(text) if is_json else {}
