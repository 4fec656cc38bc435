"""Milestones 1 and 2 as programs: what they ask, keep, refuse and report. The full training is `tox -e tour`'s part.

They run on copies of the reference, with made-up digits in the format of MNIST in place of the real ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warm import run_python

from workshop import ROOT
from workshop.author.package import assemble, reference
from workshop.course import load_course

MLP, PERCEPTRON = "m2_mlp", "m1_perceptron"
STOP_IN_EPOCH_3 = """
_write_state = write_state
def write_state(path, state):
    _write_state(path, state)
    if state["epoch"] == 3:  # in the middle of writing
        path.write_bytes(path.read_bytes()[:5000])
        raise KeyboardInterrupt
"""
SLOW_FROM_EPOCH_3 = """
_train_epoch, _begun = Trainer.train_epoch, []
def _slow_epoch(self, dataloader):
    import time
    _begun.append(1)
    time.sleep(25 if len(_begun) > 2 else 0)
    return _train_epoch(self, dataloader)
Trainer.train_epoch = _slow_epoch
"""


EMPTY_PICTURES = """
import pathlib, matplotlib.figure
matplotlib.figure.Figure.savefig = lambda self, path, **_: pathlib.Path(path).write_bytes(b"")
"""


def write_idx(path: Path, array: np.ndarray) -> None:
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(b"\0\0\x08" + bytes([array.ndim]) + lengths + array.tobytes())


def make_digits(folder: Path, shuffle_labels: bool = False) -> None:
    """Made-up digits, ten patterns with noise, and the manifest that describes them."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 28, 28))
    data = folder / "datasets" / "mnist"
    data.mkdir(parents=True)
    for part, count in {"train": 600, "t10k": 200}.items():
        labels = np.arange(count) % 10
        images = (patterns[labels] * 0.6 + rng.integers(0, 100, (count, 28, 28))).astype(np.uint8)
        labels = rng.permutation(labels) if shuffle_labels else labels
        write_idx(data / f"{part}-images-idx3-ubyte", images)
        write_idx(data / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))
    write_manifest(data, embedded=True)


def write_manifest(data: Path, embedded: bool) -> None:
    """The manifest of a single dataset, beside its folder `data`."""
    contents = {path.name: path.read_bytes() for path in data.iterdir()}
    files = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in contents.items()}
    archives = {name: [name] for name in files}
    entry = {"files": files, "archives": archives, "embedded": embedded, "addresses": [], "npm": None}
    (data.parent / "manifest.json").write_text(json.dumps({data.name: entry}), encoding="utf-8")


def copy_package(folder: Path) -> Path:
    """A folder with the reference's package, and made-up data beside it."""
    shutil.copytree(ROOT / "solutions", folder, ignore=shutil.ignore_patterns("__pycache__"))
    make_digits(folder)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """One for a test of something else than the pictures, which take longer to save than the rest to train."""
    folder = copy_package(tmp_path / "package")
    append(folder, "_names.py", EMPTY_PICTURES)
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose `out` holds a whole run of milestone 2 with seed 5. To be read only."""
    folder = copy_package(tmp_path_factory.mktemp("whole") / "package")
    done = run(folder, MLP, "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout.splitlines()[-1]
    return folder


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a quick run with seed 0."""
    folder = copy_package(tmp_path_factory.mktemp("quick") / "package")
    append(folder, "_names.py", EMPTY_PICTURES)
    done = run(folder, MLP, "--quick")
    assert done.returncode == 0, done.stderr
    assert "never counts as passed" in done.stdout and "passed" not in done.stdout.splitlines()[-1]
    return folder


def environment(package: Path) -> dict[str, str]:
    """As `python -m workshop milestone` sets it, and away from the user's own data."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TINYTORCH_", "TOX_"))}
    paths = os.pathsep.join([str(package), str(ROOT)])
    cache = str(package / "cache")
    return kept | {"PYTHONPATH": paths, "TINYTORCH_CACHE": cache, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}


def command(package: Path, name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "milestones" / f"{name}.py"), "--out", str(package / "out"), *arguments]


def run(package: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(*command(package, name, *arguments)[1:], cwd=ROOT, environment=environment(package))


def report(package: Path) -> dict[str, Any]:
    return json.loads((package / "out" / "report.json").read_text(encoding="utf-8"))


def append(package: Path, path: str, code: str) -> None:
    with (package / "tinytorch" / path).open("a", encoding="utf-8") as file:
        file.write(code)


def few_lines(text: str) -> bool:
    return 0 < len(text.splitlines()) <= 8 and "Traceback" not in text


def test_mlp_passes_and_reports(whole: Path) -> None:
    found = report(whole)
    assert (found["passed"], found["quick"], found["seed"]) == (True, False, 5)
    assert all(each["holds"] for each in found["criteria"])
    bounds = {each["what"]: (each["relation"], each["bound"]) for each in found["criteria"]}
    assert bounds["test images read, % of 200"] == (">", 97)
    assert found["metrics"]["test accuracy"] > 0.97
    assert set(found["versions"]) == {"python", "numpy", "matplotlib"}
    data = whole / "datasets" / "mnist"
    assert found["data"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data.iterdir()}
    for name in found["pictures"]:
        assert (whole / "out" / name).read_bytes().startswith(b"\x89PNG"), name
    assert {"training.png", "mistakes.png", "early_stopping.png", "memory.png"} == set(found["pictures"])
    assert set(found["machine"]) == {"system", "processor", "cores", "blas", "threads"}


def test_mlp_that_learns_nothing_falls_short(package: Path) -> None:
    shutil.rmtree(package / "datasets")
    make_digits(package, shuffle_labels=True)
    done = run(package, MLP)
    assert done.returncode == 1
    assert "falls short: test images read" in done.stdout.splitlines()[-1]
    assert report(package)["passed"] is False


def test_parameters_that_never_move_fail_even_a_quick_run(package: Path) -> None:
    append(package, "core/optimizers.py", "\nAdamW.step = lambda self: None\n")
    done = run(package, MLP, "--quick")
    assert done.returncode == 1
    assert "parameters that moved" in done.stdout.splitlines()[-1]


def test_quick_run_never_counts_as_passed(quick: Path) -> None:
    found = report(quick)
    assert (found["passed"], found["quick"]) == (False, True)
    assert found["criteria"][0]["holds"] is None


def test_interrupted_and_resumed_is_the_same_run(package: Path, whole: Path) -> None:
    expected = report(whole)["metrics"]
    intact = (package / "tinytorch" / "core" / "checkpoints.py").read_bytes()
    append(package, "core/checkpoints.py", STOP_IN_EPOCH_3)
    stopped = run(package, MLP, "--seed", "5")
    assert stopped.returncode == 130, stopped.stderr
    assert "keeps epoch 2, " in stopped.stdout.splitlines()[-2]
    assert "tox -e milestone2 -- " in stopped.stdout.splitlines()[-1]
    assert "--seed 5 --resume" in stopped.stdout.splitlines()[-1]
    assert not (package / "out" / "report.json").exists()
    assert {path.name for path in (package / "out").glob("*.npz")} == {"last.npz", "best.npz"}

    (package / "tinytorch" / "core" / "checkpoints.py").write_bytes(intact)
    other_seed = run(package, MLP, "--resume")
    assert (other_seed.returncode, "--seed 5" in other_seed.stderr) == (2, True)
    resumed = run(package, MLP, "--seed", "5", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on after epoch 2." in resumed.stdout
    got = report(package)["metrics"]
    for name in ("parameters sha256", "test loss", "training loss", "early stopping"):
        assert got[name] == expected[name], name


@pytest.mark.full
def test_seed_decides(package: Path, quick: Path) -> None:
    run(package, MLP, "--quick", "--seed", "1")
    hashes = [report(folder)["metrics"]["parameters sha256"] for folder in (package, quick)]
    assert hashes[0] != hashes[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console, this test's own included")
def test_ctrl_c_keeps_a_whole_checkpoint(package: Path) -> None:
    training = package / "tinytorch" / "core" / "training.py"
    intact = training.read_bytes()
    append(package, "core/training.py", SLOW_FROM_EPOCH_3)
    started = subprocess.Popen(
        command(package, MLP),
        env=environment(package),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    for line in started.stdout or ():
        if "epoch  2" in line:
            time.sleep(0.2)
            started.send_signal(signal.SIGINT)
            break
    said, errors = started.communicate(timeout=30)
    assert started.returncode == 130, errors
    assert "keeps epoch 2" in said and "--resume" in said and errors == ""
    training.write_bytes(intact)
    assert run(package, MLP, "--resume").returncode == 0


def test_perceptron_passes_before_stage_05_and_resumes(tmp_path: Path) -> None:
    """With stages 01 to 04 alone, as at the milestone, and with 05 in the tree as stubs."""
    for stubbed, arguments in (([], []), ([5], ["--quick"])):
        folder = tmp_path / f"package{len(stubbed)}"
        for path, text in assemble(load_course(), reference(), [1, 2, 3, 4], stubbed).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        append(folder, "_names.py", EMPTY_PICTURES if stubbed else "")
        assert (folder / "tinytorch" / "core" / "autograd.py").exists() == bool(stubbed)
        done = run(folder, PERCEPTRON, *arguments)
        assert done.returncode == 0, done.stderr
        assert report(folder)["passed"] == (not arguments)
        assert (report(folder)["criteria"][0]["holds"] is None) == bool(arguments)
        assert {"boundary.png", "convergence.png", "memory.png"} == set(report(folder)["pictures"])
    weights = report(folder)["metrics"]["weights"]
    kept = json.loads((folder / "out" / "epochs.json").read_text(encoding="utf-8"))
    kept["epochs"] = kept["epochs"][:4]
    (folder / "out" / "epochs.json").write_text(json.dumps(kept), encoding="utf-8")
    assert "Going on after epoch 4." in run(folder, PERCEPTRON, "--quick", "--resume").stdout
    assert report(folder)["metrics"]["weights"] == weights


def test_missing_and_damaged_data_are_told(package: Path) -> None:
    images = package / "datasets" / "mnist" / "train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[1000] ^= 1
    images.write_bytes(content)
    done = run(package, MLP, "--quick")
    assert done.returncode == 2
    assert "is damaged" in done.stderr and "Traceback" not in done.stderr
    shutil.rmtree(package / "datasets" / "mnist")
    done = run(package, MLP, "--quick")
    assert done.returncode == 2
    assert "The dataset mnist is not here" in done.stderr and "Traceback" not in done.stderr


def test_data_folder_comes_first(package: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (package / "datasets" / "mnist").rename(mirror / "mnist")
    done = run(package, MLP, "--quick", "--data", str(mirror))
    assert done.returncode == 0, done.stderr


def test_damaged_checkpoint_is_told(package: Path, quick: Path) -> None:
    shutil.copytree(quick / "out", package / "out")
    kept = package / "out" / "last.npz"
    kept.write_bytes(kept.read_bytes()[:2000])
    done = run(package, MLP, "--quick", "--resume")
    assert done.returncode == 2
    assert "last.npz is no whole checkpoint" in done.stderr and "without --resume" in done.stderr
    assert few_lines(done.stderr)
    (package / "out" / "epochs.json").write_text("{", encoding="utf-8")
    done = run(package, MLP, "--quick", "--resume")
    assert (done.returncode, few_lines(done.stderr)) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "-1"], "expected a whole number from 0 up, got '-1'"),
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--resume"], "nothing to go on from: start without --resume"),
    ],
)
def test_wrong_usage_is_told(package: Path, arguments: list[str], said: str) -> None:
    for name in (PERCEPTRON, MLP):
        done = run(package, name, *arguments)
        assert done.returncode == 2
        assert said in done.stderr and few_lines(done.stderr)


def test_error_in_the_package_is_told_with_its_line(package: Path) -> None:
    append(package, "core/layers.py", "\ndef _wrong(self, x):\n    return x @ x\nLinear.forward = _wrong\n")
    line = len((package / "tinytorch" / "core" / "layers.py").read_text(encoding="utf-8").splitlines()) - 1
    done = run(package, PERCEPTRON)
    assert done.returncode == 1
    assert "ValueError: matmul: shapes (400, 2) and (400, 2)" in done.stderr
    assert "tensor.py, line" in done.stderr and few_lines(done.stderr)
    trace = (package / "out" / "error.txt").read_text(encoding="utf-8")
    assert f'layers.py", line {line}' in trace


def test_nothing_returned_is_told_with_the_line_of_the_script(package: Path) -> None:
    append(package, "core/training.py", "\nTrainer.train_epoch = lambda self, dataloader: None\n")
    done = run(package, MLP, "--quick")
    assert done.returncode == 1
    assert "TypeError" in done.stderr and "milestones/m2_mlp.py, line" in done.stderr and few_lines(done.stderr)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("\nclass Broken:\nx = 1\n", "IndentationError"),
        ("\nimport sys; sys.exit(3)\n", "sys.exit(3)"),
        ("\n1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_package_that_cannot_be_imported_is_told(package: Path, code: str, said: str) -> None:
    append(package, "core/tensor.py", code)
    done = run(package, PERCEPTRON)
    assert done.returncode == 1
    assert said in done.stderr and "tinytorch/core/tensor.py, line" in done.stderr and few_lines(done.stderr)


def test_stub_is_told_as_not_written(package: Path) -> None:
    course = load_course()
    for path, text in assemble(course, reference(), range(1, 7), [7]).items():
        (package / path).write_text(text, encoding="utf-8")
    done = run(package, MLP, "--quick")
    assert done.returncode == 1
    assert "not written yet: stage 07: " in done.stderr and few_lines(done.stderr)


def test_later_stage_that_is_missing_is_told(package: Path) -> None:
    (package / "tinytorch" / "core" / "training.py").unlink()
    done = run(package, MLP, "--quick")
    assert done.returncode == 1
    assert "Trainer arrives in stage 07" in done.stderr or "CosineSchedule arrives in stage 07" in done.stderr


def test_package_from_elsewhere_is_refused(package: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(command(empty, PERCEPTRON), env=environment(empty), capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert f"{empty} holds no folder tinytorch/" in done.stderr and few_lines(done.stderr)
    (empty / "tinytorch").mkdir()  # a folder without __init__.py does not stand before a package
    done = subprocess.run(command(empty, PERCEPTRON), env=environment(empty), capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert f"not from {empty}" in done.stderr and few_lines(done.stderr)


def test_started_by_hand_it_takes_the_package_of_the_checkout(tmp_path: Path) -> None:
    """Not one that a PYTHONPATH of the user's holds."""
    foreign = tmp_path / "tinytorch"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('the foreign one')", encoding="utf-8")
    environment_by_hand = environment(tmp_path) | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command(tmp_path, PERCEPTRON, "--quick"),
        env=environment_by_hand,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 1
    assert "not written yet" in done.stderr and "foreign" not in done.stderr  # main holds stubs


def test_workshop_starts_a_milestone_with_arguments(package: Path, tmp_path: Path) -> None:
    arguments = ["milestone", "milestone1", "--package", str(package), "--", "--quick", "--out", str(tmp_path)]
    done = run_python("-m", "workshop", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.json").exists()
