"""Scratch repositories: the tests never touch the checkout that they stand in."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import warm

from workshop.course import Course, Stage, load_course
from workshop.git import clean_environment

ROOT = Path(__file__).resolve().parents[1]
# A shell that starts the tests in the background lets them, and all that they start, ignore Ctrl-C. Some tests need it.
signal.signal(signal.SIGINT, signal.default_int_handler)
LARGE = "datasets/mnist/"  # 11 MB that no test of the machinery needs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="all tests in full length, as CI runs them")


def pytest_configure(config: pytest.Config) -> None:
    warm.allowed = warm.allowed and not config.getoption("--full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `full` runs by `--full` alone."""
    late = [item for item in items if item.get_closest_marker("full") and not config.getoption("--full")]
    items[:] = [item for item in items if item not in late]
    config.hook.pytest_deselected(items=late)


@cache
def tree() -> str:
    """A digest of all that is judged here. What is chosen by it changes with each change, and with nothing else."""
    paths = [path for name in ("gates", "solutions", "workshop") for path in (ROOT / name).rglob("*.*")]
    content = b"".join(path.read_bytes() for path in sorted(paths) if path.suffix in (".py", ".yaml", ".json"))
    return hashlib.sha256(content).hexdigest()


def some(items: Sequence[Any], count: int, what: str) -> list[Any]:
    """`count` of `items`, in their order: others after each change of the tree, and others for each test (`what`)."""
    order = sorted(range(len(items)), key=lambda i: hashlib.sha256(f"{tree()} {what} {i}".encode()).digest())
    return [items[i] for i in sorted(order[:count])]


def stages_in_turn(count: int, what: str) -> pytest.MarkDecorator:
    """A test of every stage that takes long: all by `--full`, and every day `count` of them, others after each change.

    So the everyday tests take no longer with more stages.
    """
    stages = load_course(ROOT).stages
    today = some(stages, count, what)
    cases = [pytest.param(stage, id=stage.slug, marks=[] if stage in today else [pytest.mark.full]) for stage in stages]
    return pytest.mark.parametrize("stage", cases)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this is a run of all tests in full length. The everyday run repeats fewer times what is alike."""
    return bool(request.config.getoption("--full"))


def run_git(folder: Path, *arguments: str, **environment: str) -> str:
    """What git prints, as text; a failure is the test's failure, with what git said."""
    return git_output(folder, *arguments, **environment).decode("utf-8")


def git_output(folder: Path, *arguments: str, **environment: str) -> bytes:
    """What git prints, byte for byte: a file may be a picture."""
    identity = {
        "GIT_AUTHOR_NAME": "A Student",
        "GIT_AUTHOR_EMAIL": "student@example.org",
        "GIT_COMMITTER_NAME": "A Student",
        "GIT_COMMITTER_EMAIL": "student@example.org",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        env=clean_environment() | identity | environment,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.decode()} {done.stdout.decode()}"
    return done.stdout


def run_workshop(
    folder: Path, *arguments: str, cold: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python -m workshop arguments` in a scratch repository, by its own machinery."""
    settings = os.environ | {"COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return warm.run_python("-m", "workshop", *arguments, cwd=folder, environment=settings, cold=cold)


def copy_checkout(folder: Path) -> Path:
    """A new repository with the files of this checkout, committed as main."""
    folder.mkdir(parents=True, exist_ok=True)
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        env=clean_environment(),
    )
    for name in filter(None, listing.stdout.decode("utf-8").split("\0")):
        if not name.startswith(LARGE) and (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    run_git(folder, "init", "-q", "-b", "main")
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-q", "-m", "main")
    run_git(folder, "repack", "-a", "-d", "-q")  # one file in place of hundreds, to be copied for many tests
    return folder


@pytest.fixture(scope="session")
def course() -> Course:
    """The map of the checkout."""
    return load_course(ROOT)


@pytest.fixture(scope="session")
def chosen(course: Course, full: bool) -> tuple[Stage, ...]:
    """The stages that a test repeats itself for: every day the first and the ends of the groups, in full all."""
    ends = {course.stages[0].number, *(milestone.stages[-1] for milestone in course.milestones)}
    return tuple(stage for stage in course.stages if full or stage.number in ends)


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills once for all processes that share the tests. To be read only."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    begun, failed = folder.with_name(f"{name}.begun"), folder.with_name(f"{name}.failed")
    try:
        begun.mkdir()
    except FileExistsError:
        end = time.monotonic() + 120
        while not folder.exists():
            assert time.monotonic() < end and not failed.exists(), f"another process could not make {folder}"
            time.sleep(0.05)
        return folder
    try:
        make(begun / name)
        (begun / name).rename(folder)
    except BaseException:
        failed.touch()
        raise
    return folder


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the files of this checkout as main, and no stages. To be read only."""
    return once(tmp_path_factory, "bare", copy_checkout)


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory, bare: Path) -> Path:
    """A repository like a published one: main, with the stages cut. To be read only."""

    def make(folder: Path) -> None:
        shutil.copytree(bare, folder)
        done = run_workshop(folder, "stages")
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "origin", make)


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes plain clones of `origin`: main and the tags, as `git clone` brings them."""
    made = iter(range(1000))

    def make(at: str = "main") -> Path:
        folder = tmp_path / f"clone{next(made)}"
        run_git(tmp_path, "clone", "-q", "--no-checkout", str(origin), str(folder))
        run_git(folder, "checkout", "-q", at)
        return folder

    return make


@pytest.fixture
def author(bare: Path, tmp_path: Path) -> Path:
    """A repository of its own to write in, without stages."""
    return Path(shutil.copytree(bare, tmp_path / "author"))


@pytest.fixture(scope="module")
def tt() -> Iterator[ModuleType]:
    """The reference, imported for these tests alone: afterwards no `tinytorch` is loaded, as before."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "tinytorch"}
    sys.path.insert(0, str(ROOT / "solutions"))
    package = importlib.import_module("tinytorch")
    assert package.__file__.startswith(str(ROOT / "solutions"))
    yield package
    sys.path.remove(str(ROOT / "solutions"))
    for name in [name for name in sys.modules if name.split(".")[0] == "tinytorch"]:
        del sys.modules[name]
    sys.modules.update(before)
