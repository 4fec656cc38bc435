"""CONTRIBUTING.md tells how to add a stage; here its example is added to a scratch copy, just as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT, once, run_git, run_workshop
from test_tox import tox


def example() -> dict[str, str]:
    """The files of the example: each a path alone on a line in backticks, and the block that follows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", text, re.M | re.S)
    return dict(found)


@pytest.fixture
def with_stage(bare: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A scratch copy with the example's stage added, committed and cut."""

    def make(folder: Path) -> None:
        add_the_stage(Path(shutil.copytree(bare, folder)))

    return Path(shutil.copytree(once(tmp_path_factory, "with_stage", make), tmp_path / "author"))


def add_the_stage(author: Path) -> None:
    files = example()
    entry = files.pop("stages.yaml")
    for path, text in files.items():
        assert not (author / path).exists()
        (author / path).parent.mkdir(parents=True, exist_ok=True)
        (author / path).write_text(text, encoding="utf-8", newline="\n")
    course = (author / "stages.yaml").read_text(encoding="utf-8")
    (author / "stages.yaml").write_text(
        course.replace("\nmilestones:", f"{entry}\nmilestones:"), encoding="utf-8", newline="\n"
    )
    for command in (["derive"], ["records", "20"]):
        done = run_workshop(author, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    changed = run_git(author, "status", "--porcelain", "-uall").split("\n")
    written = {*files, "stages.yaml"}
    made = {
        "tinytorch/core/norms.py",
        "gates/records/20_norms.json",
        "tinytorch/_names.py",
        "solutions/tinytorch/_names.py",
    }
    assert {line[3:] for line in changed if line} == written | made, (
        "one file, one gate, mistakes, a lesson, an entry; no more"
    )
    assert len(written) == 5
    run_git(author, "add", "-A")
    run_git(author, "commit", "-qm", "stage 20")
    done = run_workshop(author, "stages")
    assert done.returncode == 0, done.stderr


def test_the_stage_is_cut_and_judged(with_stage: Path, full: bool) -> None:
    run_git(with_stage, "switch", "-q", "-c", "mine", "stage-20")
    stub = run_workshop(with_stage, "gate", "20")
    assert stub.returncode == 1 and re.search(r"euclidean_norm +20 +not written yet", stub.stdout), stub.stdout
    path = with_stage / "tinytorch/core/norms.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"raise NotImpl.*", "return (x * x).sum()", text), encoding="utf-8")
    wrong = run_workshop(with_stage, "gate", "20")
    assert wrong.returncode == 1 and "That is the result of: the root is forgotten." in wrong.stdout, wrong.stdout
    path.write_text(re.sub(r"raise NotImpl.*", "return (x * x).sum() ** 0.5", text), encoding="utf-8")
    right = by_tox(with_stage, "gate20") if full else run_workshop(with_stage, "gate20").stdout
    assert "20 of 20 points" in right and "gate 20 passed" in right, right


def by_tox(folder: Path, name: str) -> str:
    """What `tox -e name` says there, in a venv that borrows the packages of this Python, so that none are fetched."""
    project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    text = re.sub(r"^workshop = \[.*?\]", "workshop = []", project, flags=re.DOTALL | re.MULTILINE)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8", newline="\n")
    packages = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    return tox(folder, "-x", f"testenv.set_env+=PYTHONPATH={packages}", "-e", name)


def test_the_public_name_is_found(with_stage: Path) -> None:
    assert '"euclidean_norm": ("tinytorch.core.norms", 20)' in run_git(
        with_stage, "show", "stage-01:tinytorch/_names.py"
    )


def test_every_file_that_the_page_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    for path in re.findall(r"`((?:tests|workshop|benchmarks|datasets)/[\w/.]*)`", outside):
        assert (ROOT / path).exists(), path
