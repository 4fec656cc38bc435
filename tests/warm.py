"""Python processes that need not start from nothing: forks of a server that has the large packages loaded already.

Importing NumPy, pytest and matplotlib takes a process longer than most tests need it for. What is loaded is nothing of
this repository: workshop, package and scripts are those of the folder where the process runs. Where there is no Linux,
and in a run of all tests, every process starts from nothing.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

LOADED = (
    "numpy",
    "pytest",
    "pytest_timeout",
    "yaml",
    "rich.console",
    "rich.table",
    "rich.progress",
    "matplotlib.pyplot",
)
PATIENCE = 120  # seconds
allowed = sys.platform == "linux"


def run_python(
    *arguments: str | Path,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    script: str = "",
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """`python arguments` with `script` as its input; `cold`: in a process that starts from nothing in any case."""
    given = [str(argument) for argument in arguments]
    environment = dict(os.environ if environment is None else environment)
    if allowed and not cold:
        return server().run(given, cwd, environment, script)
    command = [sys.executable, *given]
    settings = {"capture_output": True, "encoding": "utf-8", "check": False, "timeout": PATIENCE}
    return subprocess.run(command, cwd=cwd, env=environment, input=script, **settings)


class Server:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(theirs.fileno())]
        settings = {"PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self.process = subprocess.Popen(
            command, env=os.environ | settings, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=Path("/")
        )
        theirs.close()
        self.connection.settimeout(PATIENCE)
        self.one_at_a_time = threading.Lock()

    def run(
        self, arguments: list[str], cwd: Path, environment: dict[str, str], script: str
    ) -> subprocess.CompletedProcess[str]:
        request = json.dumps([arguments, str(cwd), environment]).encode()
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(script.encode())
            given.seek(0)
            with self.one_at_a_time:
                socket.send_fds(self.connection, [request], [given.fileno(), out.fileno(), err.fileno()])
                try:
                    code = int(self.connection.recv(100))
                except (OSError, ValueError):  # it takes too long, or the server is gone: the next one asks another
                    server.cache_clear()
                    self.process.kill()
                    raise
            out.seek(0)
            err.seek(0)
            said, errors = out.read().decode("utf-8"), err.read().decode("utf-8")
        return subprocess.CompletedProcess(arguments, code, said, errors)


@cache
def server() -> Server:
    return Server()


# In the server's process


def serve(connection: socket.socket) -> list[Any] | None:
    """Fork for each request and tell how the child ended. Returns in each child, with its request, and at the end."""
    for name in LOADED:
        __import__(name)
    gc.collect()
    gc.freeze()  # a garbage collection in the child need not look at any of this, nor copy its memory
    while True:
        request, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not request:
            return None
        child = os.fork()
        if child == 0:
            connection.close()
            for i, descriptor in enumerate(descriptors):
                os.dup2(descriptor, i)
                os.close(descriptor)
            return json.loads(request)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def begin(arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Do what `python arguments` does in the folder `cwd`."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    kind, *rest = arguments
    first = {"-m": cwd, "-c": "", "-": ""}.get(kind, os.path.dirname(os.path.abspath(kind)))
    before = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:] = [*before, *sys.path[1:]]
    if kind == "-m":
        sys.argv = [rest[0], *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind in ("-c", "-"):
        sys.argv = [kind, *(rest[1:] if kind == "-c" else rest)]
        text = rest[0] if kind == "-c" else sys.stdin.read()
        sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(text, "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    todo = serve(socket.socket(fileno=int(sys.argv[1])))
    if todo:
        begin(*todo)
