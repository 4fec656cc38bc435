"""tox is the everyday face of the workshop: one venv for all gates, and arguments, data and terminal passed on.

The tests run tox on a scratch project with this project's tox.ini and toxfile.py, an empty list of dependencies, so
that nothing is downloaded, and a workshop that only writes down how it was called.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = {f"{kind}{n:02}" for kind in ("gate", "measure") for n in range(1, 20)} | {f"milestone{n}" for n in range(1, 6)}
NAMES |= {"tests", "stages", "tour", "records", "bench"}

WORKSHOP = """
import json, os, sys, time
from pathlib import Path

call = {"arguments": sys.argv[1:], "venv": sys.prefix, "data": os.environ.get("TINYTORCH_DATA")}
call["terminal"] = os.ttyname(1) if sys.stdout.isatty() else None
Path(os.environ["TOX_ENV_NAME"] + ".json").write_text(json.dumps(call), encoding="utf-8")
if "--train" in sys.argv:
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        time.sleep(1)
        Path("checkpoint").touch()
"""


def tox_command() -> list[str]:
    """The tox that runs these tests, or else the one at hand."""
    if python := os.environ.get("WORKSHOP_TOX_PYTHON"):
        return [python, "-m", "tox"]
    if importlib.util.find_spec("tox"):
        return [sys.executable, "-m", "tox"]
    if tox := shutil.which("tox"):
        return [tox]
    pytest.fail("No tox found, which these tests are about. Install it with `python -m pip install tox`.")


def surroundings() -> dict[str, str]:
    """The environment without the outer tox, which would lend the inner one its options and folders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOX_") and name != "FORCE_COLOR"}
    return kept | {"NO_COLOR": "1", "PIP_NO_INDEX": "1", "TINYTORCH_DATA": "my data"}


def tox(project: Path, *arguments: str) -> str:
    """Run tox in `project`; it must succeed. Returns what it said."""
    done = subprocess.run(
        [*tox_command(), *arguments],
        cwd=project,
        env=surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def call_of(project: Path, name: str) -> dict:
    """How the workshop was last called by the environment `name`."""
    return json.loads((project / f"{name}.json").read_text(encoding="utf-8"))


def need(project: Path, requirements: str) -> None:
    """Make `requirements` the dependencies of all environments."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text, found = re.subn(r"^workshop = \[.*?\]", f"workshop = [{requirements}]", text, flags=re.DOTALL | re.MULTILINE)
    assert found == 1, "pyproject.toml has no dependency group `workshop`"
    (project / "pyproject.toml").write_text(text, encoding="utf-8")


def mark_venv(project: Path) -> Path:
    """Make the shared venv, and in it a file that is gone once the venv is made anew."""
    tox(project, "-e", "gate02")
    mark = project / ".tox" / "gates" / "mark"
    mark.touch()
    return mark


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("tox.ini", "toxfile.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "workshop").mkdir()
    (tmp_path / "workshop" / "__main__.py").write_text(WORKSHOP, encoding="utf-8")
    need(tmp_path, "")
    return tmp_path


def test_a_cold_parallel_start_makes_one_venv(project: Path) -> None:
    gates = ["gate01", "gate02", "gate03", "gate04"]
    tox(project, "run-parallel", "--parallel", "4", "-e", ",".join(gates))
    venvs = {Path(call_of(project, gate)["venv"]).resolve() for gate in gates}
    assert venvs == {(project / ".tox" / "gates").resolve()}


def test_switching_keeps_the_venv(project: Path) -> None:
    mark = mark_venv(project)
    for name in ["gate01", "gate05", "milestone1", "tests", "gate01"]:
        said = tox(project, "-e", name)
        assert mark.exists(), said
        assert not re.search("install|remove|recreate", said), said
        assert Path(call_of(project, name)["venv"]).resolve() == mark.parent.resolve()


def test_a_changed_dependency_group_is_installed(project: Path) -> None:
    mark = mark_venv(project)
    need(project, '"pip"')  # which is there already, so that nothing is downloaded
    assert "install_dependency-groups> python -I -m pip install pip" in tox(project, "-e", "gate01")
    assert "install" not in tox(project, "-e", "gate05")
    assert mark.exists()
    need(project, "")  # tox cannot know what came with pip, and starts afresh
    assert "dependencies removed: pip" in tox(project, "-e", "gate05")
    assert not mark.exists()


def test_recreating_happens_once_a_run(project: Path) -> None:
    mark = mark_venv(project)
    assert tox(project, "-r", "-e", "gate01,gate02").count("remove tox env folder") == 1
    assert not mark.exists()


def test_list_names_and_describes_every_environment(project: Path) -> None:
    said = tox(project, "list")
    assert set(re.findall(r"^(\w+) +-> ", said, flags=re.MULTILINE)) == NAMES
    assert "no description" not in said
    assert re.findall(r"^default environments:\n(\w+) .*\n\n", said) == ["tests"]


def test_torch_stays_out_of_the_shared_venv(project: Path) -> None:
    said = tox(project, "config", "-e", "bench", "-k", "env_dir", "dependency_groups")
    assert f"env_dir = {project / '.tox' / 'bench'}" in said
    assert "dependency_groups = bench" in said


def test_arguments_and_data_reach_the_workshop(project: Path) -> None:
    tox(project, "-e", "gate05,milestone2,tests,stages,tour,records", "--", "--seed", "3", "two words")
    expected = {name: [name] for name in ("tests", "stages", "tour", "records")}
    expected |= {"gate05": ["gate", "gate05"], "milestone2": ["milestone", "milestone2"]}
    for name, arguments in expected.items():
        call = call_of(project, name)
        assert call["arguments"] == [*arguments, "--seed", "3", "two words"]
        assert call["data"] == "my data"
        assert call["terminal"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminal to test with")
def test_terminal_and_ctrl_c_reach_the_training(project: Path) -> None:
    """The command has the terminal, and after Ctrl-C the time to keep a checkpoint: one second in this test."""
    here, there = os.openpty()
    terminal = os.ttyname(there)
    command = [*tox_command(), "-e", "milestone2", "--", "--train"]
    process = subprocess.Popen(
        command, cwd=project, env=surroundings(), stdin=there, stdout=there, stderr=there, start_new_session=True
    )
    os.close(there)
    wait_for(project / "milestone2.json")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to tox and to all that it has started
    said = read_all(here)
    assert process.wait(timeout=30) != 0
    assert call_of(project, "milestone2")["terminal"] == terminal
    assert (project / "checkpoint").exists(), said


def wait_for(path: Path) -> None:
    """Wait until `path` is written, at most twenty seconds."""
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} was not written within 20 seconds"
        time.sleep(0.05)
    time.sleep(0.2)


def read_all(terminal: int) -> str:
    """What was written to a pseudo-terminal until the last process left it."""
    chunks = []
    try:
        while chunk := os.read(terminal, 4096):
            chunks.append(chunk)
    except OSError:  # Linux says the end so
        pass
    os.close(terminal)
    return b"".join(chunks).decode("utf-8", "replace")
