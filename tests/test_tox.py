"""tox is the everyday face of the workshop: one venv for all gates, and arguments, data and terminal passed on.

The tests run tox on a scratch project with this project's map, tox.ini and toxfile.py, an empty list of dependencies,
so that nothing is downloaded, and a workshop that only writes down how it was called.
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

from workshop.course import load_course

ROOT = Path(__file__).resolve().parent.parent
AUTHORS = {"tests", "full", "lint", "stages", "tour", "records", "bench"}

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


def tox(project: Path, *arguments: str, fails: bool = False) -> str:
    """Run tox in `project`; it must succeed, or fail if that is what it shall do. Returns what it said."""
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
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def listed(said: str) -> dict[str, str]:
    """The environments that `tox list`, which said this, names, with their descriptions."""
    return dict(re.findall(r"^(\w+) +-> (.*)$", said, flags=re.MULTILINE))


def default(said: str) -> str:
    """The one that plain `tox` runs."""
    (name,) = re.findall(r"^default environments:\n(\w+) .*\n\n", said)
    return name


def stages_and_milestones(project: Path) -> set[str]:
    """The environments of the stages and milestones in the project's map."""
    course = load_course(project)
    names = {f"{kind}{stage.label}" for kind in ("gate", "measure") for stage in course.stages}
    return names | {f"milestone{milestone.number}" for milestone in course.milestones}


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
    for name in ("tox.ini", "toxfile.py", "stages.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "workshop" / "author").mkdir(parents=True)
    (tmp_path / "workshop" / "author" / "__init__.py").touch()
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
    for names in ["gate01,gate05,milestone1", "tests"]:
        said = tox(project, "-e", names)
        assert mark.exists(), said
        assert not re.search("install|remove|recreate", said), said
        for name in names.split(","):
            assert Path(call_of(project, name)["venv"]).resolve() == mark.parent.resolve()


@pytest.mark.full
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


def test_list_names_and_describes_what_the_map_has(project: Path) -> None:
    text = tox(project, "list")
    said = listed(text)
    assert default(text) == "tests" and set(said) == stages_and_milestones(project) | AUTHORS | {"list"}
    assert "[no description]" not in said.values()
    text = (project / "stages.yaml").read_text(encoding="utf-8")
    entry = "  - {number: 40, name: next, question: Q, needs: [], files: {}}\n"
    milestone = "  - number: 9\n    name: last\n    stages: [40]\n"
    text = text.replace("\nmilestones:", f"{entry}\nmilestones:") + milestone
    (project / "stages.yaml").write_text(text, encoding="utf-8")
    added = stages_and_milestones(project)
    assert {"gate40", "measure40", "milestone9"} <= added
    assert set(listed(tox(project, "list"))) == added | AUTHORS | {"list"}


def test_a_stages_tree_lists_none_of_the_authors_environments(project: Path) -> None:
    (project / "workshop" / "author" / "__init__.py").unlink()  # a folder with bytecode may well stay behind
    text = tox(project, "list")
    assert default(text) == "list" and set(listed(text)) == stages_and_milestones(project) | {"list"}
    said = tox(project, "-e", "tour,gate77", fails=True)
    assert re.search(r"not found in configuration file:\ntour\ngate77\b", said), said
    (project / "stages.yaml").unlink()
    said = tox(project, "-e", "gate01", fails=True)
    assert "stages.yaml is missing" in said and "Traceback" not in said


def test_torch_and_ruff_stay_out_of_the_shared_venv(project: Path) -> None:
    said = tox(project, "config", "-e", "bench,lint", "-k", "env_dir", "dependency_groups", "runner", "commands")
    for name in ("bench", "lint"):
        assert f"env_dir = {project / '.tox' / name}" in said and f"dependency_groups = {name}" in said
    assert said.count("runner = virtualenv") == 2
    assert "ruff format --check" in said and "ruff check" in said


def test_ci_runs_everything() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("python -m tox")] == [
        "python -m tox -e lint",
        "python -m tox",
        "python -m tox -e full",
    ]


def test_arguments_and_data_reach_the_workshop(project: Path) -> None:
    names = ["gate05", "measure01", "milestone2", "list", "tests", "full", "stages", "tour", "records"]
    tox(project, "-e", ",".join(names), "--", "--seed", "3", "two words")
    for name in names:
        call = call_of(project, name)
        assert call["arguments"] == [name, "--seed", "3", "two words"]
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
