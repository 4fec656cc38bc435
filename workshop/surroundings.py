"""What a training run or a benchmark stands on: the package that it judges, the machine, and files written whole."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from workshop import ROOT, WorkshopError

# The package to judge


def judged_folder() -> Path:
    """The folder with the package to judge: the checkout, or what `python -m workshop milestone` put before it."""
    given = [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return given[0] if ROOT in given else ROOT


def import_package(folder: Path) -> ModuleType:
    """The package `tinytorch` in `folder`; a WorkshopError if there is none, or another one stands in its way."""
    if not (folder / "tinytorch").is_dir():
        raise WorkshopError(f"{folder} holds no folder tinytorch/, the package that is to be trained with")
    package = importlib.import_module("tinytorch")
    found = Path(package.__file__ or "nowhere").resolve()
    if not found.is_relative_to(folder):
        raise WorkshopError(f"tinytorch was imported from {found.parent}, not from {folder}: rename or remove that one")
    return package


def error_lines(error: BaseException, folder: Path) -> list[str]:
    """What a student is told of an error: its type and message, and where in the package in `folder` it happened."""
    if isinstance(error, NotImplementedError) and "is yours to write" in str(error):
        return [f"not written yet: {error}"]
    if isinstance(error, SyntaxError) and error.filename:
        return [f"{type(error).__name__}: {error.msg}", f"  {shown(Path(error.filename))}, line {error.lineno}"]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(folder / "tinytorch")]
    script = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(ROOT / "milestones")]
    places = [f"  {shown(Path(f.filename))}, line {f.lineno}, in {f.name}: {f.line}" for f in (own or script)[-1:]]
    message = f"the program was ended (sys.exit({error.code!r}))" if isinstance(error, SystemExit) else str(error)
    return [f"{type(error).__name__}: {message}", *places]


# The machine


def machine() -> dict[str, Any]:
    """What matters for speed, and nothing that tells whose machine it is."""
    blas = _numpy_config()["Build Dependencies"]["blas"]
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "blas": f"{blas['name']} {blas['version']}",
    }


def _numpy_config() -> dict[str, Any]:
    import numpy

    return numpy.show_config(mode="dicts")


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of `packages`."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def keep_memory() -> bool:
    """Let this process keep the memory that it has had, for its next arrays. Returns whether that is in force.

    glibc gives large arrays back to the system as soon as they are freed, and the next training step pays for fresh
    pages, thousands of them. Elsewhere than on Linux with glibc nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return False
    trim_threshold, mmap_threshold = -1, -3  # the numbers that malloc.h gives these parameters
    kept = any(mallopt(mmap_threshold, size) for size in (2**30, 2**25))  # older ones take at most the second
    return sys.platform == "linux" and kept and bool(mallopt(trim_threshold, 2**31 - 1))


def peak_memory(step: Callable[[], object]) -> tuple[float, str]:
    """Megabytes at the most so far, and of what: the whole process; where the system does not tell, only of `step`."""
    try:
        import resource
    except ImportError:  # Windows
        tracemalloc.start()
        try:
            step()
            return tracemalloc.get_traced_memory()[1] / 1e6, "a training step, by tracemalloc"
        finally:
            tracemalloc.stop()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, "the whole process, by getrusage"


# Files


def shown(path: Path) -> str:
    """`path` as a person in the checkout would write it."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def write_json(path: Path, content: Any) -> None:
    """Write `content` under a temporary name first, so that whatever happens `path` is whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=2, default=float) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
