"""A forked process does what one does that starts from nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from warm import run_python, server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process starts from nothing")
SCRIPT = """
import os, sys
print("ä", sys.argv[1:], os.environ.get("GIVEN"), os.getcwd(), __name__, repr(sys.stdin.read()))
print("said", file=sys.stderr)
import beside
print(beside.__file__, os.path.samefile(sys.path[0] or '.', os.path.dirname(beside.__file__)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "beside.py").write_text("here = 1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("script.py", "a", "b c"),
        ("-m", "script", "a"),
        ("-c", SCRIPT, "a"),
        ("-c", "import sys; sys.exit(3)"),
        ("-c", "import sys; sys.exit('in words')"),
        ("-c", "import os; os._exit(4)"),
        ("-c", "import os; os.kill(os.getpid(), 9)"),
        ("-c", "import atexit; atexit.register(print, 'the end')"),
        ("-c", "import sys; print(sorted(name for name in sys.modules if name.startswith(('workshop', 'tinytorch'))))"),
        ("-c", "print(sorted(name for name in globals() if not name.startswith('__')))"),
        ("-c", "import beside, threading; threading.Thread(target=print, args=['of a thread']).start()"),
        ("-",),
    ],
)
def test_warm_is_like_cold(folder: Path, arguments: tuple[str, ...]) -> None:
    environment = {"GIVEN": "this", "PYTHONUTF8": "1", "PYTHONPATH": str(folder)}
    cold = run_python(*arguments, cwd=folder, environment=environment, script="print('given')", cold=True)
    warm = server().run(list(arguments), folder, environment, "print('given')")
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)


def test_an_error_is_told_by_its_traceback(folder: Path) -> None:
    warm = server().run(["-c", "def f():\n    1 / 0\nf()"], folder, {}, "")
    assert warm.returncode == 1 and warm.stderr.endswith("in f\nZeroDivisionError: division by zero\n"), warm.stderr


def test_each_process_begins_anew(folder: Path) -> None:
    for _ in range(2):
        done = server().run(
            ["-c", "import os, beside; print(beside.here, os.environ); beside.here = 2"], folder, {}, ""
        )
        assert done.stdout == "1 environ({})\n", done.stderr
