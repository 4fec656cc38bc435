"""tinytorch: a small deep-learning framework, built stage by stage by the person who learns from it.

Public names are found when they are asked for, so that this file is the same at every stage.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from tinytorch._names import NAMES  # name -> (module that defines it, stage that brings it)


def _present(module: str) -> bool:
    return Path(__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py").exists()


__all__ = [name for name, (module, _) in NAMES.items() if _present(module)]


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'tinytorch' has no attribute {name!r}")
    module, stage = NAMES[name]
    if not _present(module):
        # Only an ImportError keeps its message through `from tinytorch import …`.
        raise ImportError(f"{name} arrives in stage {stage:02d}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Gradients wake up as soon as stage 05 is in the tree: nobody imports autograd by hand.
if _present("tinytorch.core.autograd"):
    import_module("tinytorch.core.autograd")
