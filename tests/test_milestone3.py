"""Milestone 3 as a program. It runs on a copy of the reference, with made-up images in the format of CIFAR-10."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_milestones import append, few_lines, report, run, write_manifest

from workshop import ROOT

CNN = "m3_cnn"
STOP_IN_EPOCH_2 = """
_write_state = write_state
def write_state(path, state):
    if state["epoch"] == 2:
        raise KeyboardInterrupt
    _write_state(path, state)
"""
RED_FOR_BLUE = """
_read_cifar = read_cifar
def read_cifar(paths):
    images, labels = _read_cifar(paths)
    return images[:, ::-1].copy(), labels
"""


def make_images(folder: Path) -> None:
    """Ten patterns in colour, with noise, and the manifest that describes the files."""
    rng = np.random.default_rng(0)
    patterns, data = rng.integers(0, 256, (10, 3072)), folder / "datasets" / "cifar10"
    data.mkdir(parents=True)
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        labels = rng.integers(0, 10, 110)
        images = patterns[labels] * 0.6 + rng.integers(0, 100, (110, 3072))
        (data / name).write_bytes(np.column_stack([labels, images]).astype(np.uint8).tobytes())
    write_manifest(data, embedded=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the reference's package, and made-up data beside it."""
    folder = tmp_path / "package"
    shutil.copytree(ROOT / "solutions", folder, ignore=shutil.ignore_patterns("__pycache__"))
    make_images(folder)
    return folder


@pytest.mark.full
def test_quick_run_reports_and_resumes_as_the_same_run(package: Path) -> None:
    whole = run(package, CNN, "--quick", "--seed", "5")
    assert whole.returncode == 0, whole.stderr
    assert "never counts as passed" in whole.stdout and "passed" not in whole.stdout.splitlines()[-1]
    found = report(package)
    assert (found["passed"], found["quick"], found["seed"]) == (False, True, 5)
    criteria = {
        each["what"].split(",")[0]: (each["relation"], each["bound"], each["holds"]) for each in found["criteria"]
    }
    assert criteria["test images right"] == (">", 75, None)
    assert criteria.pop("parameters that moved") == ("==", 11, True)
    assert len(found["data"]) == 6
    for path in (package / "datasets" / "cifar10").iterdir():
        assert found["data"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {f"{name}.png" for name in ("training", "parameters", "filters", "confusion", "time")} == set(
        found["pictures"]
    )
    for name in found["pictures"]:
        assert (package / "out" / name).read_bytes().startswith(b"\x89PNG"), name
    assert found["metrics"]["parameters"] == 113_962
    assert len(found["metrics"]["compared"]) == 4 and found["metrics"]["peak memory in MB"] < 2000

    intact = (package / "tinytorch" / "core" / "checkpoints.py").read_bytes()
    append(package, "core/checkpoints.py", STOP_IN_EPOCH_2)
    stopped = run(package, CNN, "--quick", "--seed", "5")
    assert stopped.returncode == 130 and "keeps epoch 1, " in stopped.stdout, stopped.stderr
    (package / "tinytorch" / "core" / "checkpoints.py").write_bytes(intact)
    resumed = run(package, CNN, "--quick", "--seed", "5", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("parameters sha256", "test loss", "training loss"):
        assert report(package)["metrics"][name] == found["metrics"][name], name


@pytest.mark.full
def test_wrong_package_falls_short_even_in_a_quick_run(package: Path) -> None:
    append(package, "core/optimizers.py", "\nAdamW.step = lambda self: None\n")
    append(package, "data/datasets.py", RED_FOR_BLUE)
    done = run(package, CNN, "--quick")
    assert done.returncode == 1, done.stderr
    said = done.stdout.splitlines()[-1]
    assert "falls short: parameters that moved" in said and "; training images that CIFAR10 reads wrong" in said


def test_missing_data_are_told(package: Path) -> None:
    shutil.rmtree(package / "datasets" / "cifar10")
    done = run(package, CNN, "--quick")
    assert done.returncode == 2
    assert "The dataset cifar10 is not here" in done.stderr and few_lines(done.stderr)
