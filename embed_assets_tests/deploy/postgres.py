"""A real PostgreSQL server for tests: made in a temporary folder, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from embed_assets_tests.deploy.servers import free_port

_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_PLACES = os.pathsep.join([os.environ.get("PATH", ""), *map(str, _DEBIAN)])
POSTGRES, INITDB = (shutil.which(name, path=_PLACES) for name in ("postgres", "initdb"))

needs_postgres = pytest.mark.skipif(
    POSTGRES is None or INITDB is None, reason="needs PostgreSQL: apt-get install postgresql"
)


@contextmanager
def postgres() -> Iterator[str]:
    """A server on a port of 127.0.0.1. Gives the URL of its one database."""
    assert POSTGRES is not None
    assert INITDB is not None
    # Not below pytest's own folder, which nobody but its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="embed-assets-postgres-"))
    owner = _owner()
    if owner:
        shutil.chown(folder, owner["user"])
    secret = folder / "password"
    secret.write_text("lovelace")
    secret.chmod(0o644)
    data, port = folder / "data", free_port()
    made = [INITDB, "-D", str(data), "-U", "dagster", "-A", "scram-sha-256", f"--pwfile={secret}"]
    subprocess.run([*made, "--no-sync"], check=True, capture_output=True, cwd=folder, **owner)
    # As its data is thrown away, it need not be brought to the disk.
    options = ["-c", "fsync=off", "-c", f"unix_socket_directories={folder}", "-h", "127.0.0.1"]
    server = subprocess.Popen(
        [POSTGRES, "-D", str(data), "-p", str(port), *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **owner,
    )
    try:
        url = f"postgresql+psycopg2://dagster:lovelace@127.0.0.1:{port}/postgres"
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)


def _owner() -> dict[str, Any]:
    """How subprocess starts a server that refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = "postgres" if "postgres" in names else "nobody"
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    import sqlalchemy as db

    engine = db.create_engine(url)
    for _ in range(300):
        assert server.poll() is None, "postgres ended; start it by hand to see why"
        try:
            engine.connect().close()
            engine.dispose()
            return
        except db.exc.OperationalError:
            time.sleep(0.1)
    raise AssertionError("postgres does not answer")
