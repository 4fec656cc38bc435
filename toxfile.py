"""tox plugin, read by tox itself: the environments, one virtual environment for all gates, and the real terminal.

`stages.yaml` is the one list of the stages, so the environments with a number are made from it. An author's
environments are there only where the author's tools are: `tox list` shows what works in this tree, and nothing else.

tox keeps in a venv the name of the environment that made it, and empties the venv for an environment of another name.
With nineteen gates that is either nineteen venvs or a new one at each switch. `SharedInfo` keeps one constant name
instead; all else that tox records (interpreter, dependencies) still decides when the venv is made anew. Should a later
tox record the name in another way, each switch would make a new venv again, and tests/test_tox.py would tell.
"""

from __future__ import annotations

import re
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock
from tox.config.loader.memory import MemoryLoader
from tox.config.sets import CoreConfigSet
from tox.config.types import Command, EnvList
from tox.plugin import impl, spec
from tox.report import HandledError
from tox.session.state import State
from tox.tox_env.api import ToxEnv
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister

ROOT = Path(__file__).parent
AUTHORS: dict[str, dict[str, Any]] = {
    "tests": {"description": "the everyday tests of the workshop itself (-- PATH or -k WORD: some of them)"},
    "full": {"description": "all tests of the workshop itself, as CI runs them"},
    "lint": {
        "description": "see that the code is formatted, and that ruff finds nothing in it",
        "dependency_groups": {"lint"},
        "commands": [Command(["ruff", "format", "--check"]), Command(["ruff", "check"])],
    },
    "stages": {"description": "cut the stages: write the tags handout-NN and stage-NN and the refs solutions/NN"},
    "tour": {"description": "walk all stages in a scratch clone and train the milestones (-- --full: all in full)"},
    "records": {"description": "record what each known mistake makes its gate observe, for the gates' messages"},
    # Linux: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu brings the small torch, without CUDA.
    "bench": {"description": "compare with other systems", "dependency_groups": {"bench"}},
}


def numbered() -> dict[str, dict[str, Any]]:
    """The environments of stages and milestones. tox has no YAML at hand, but numbers and names are easily found."""
    try:
        text = (ROOT / "stages.yaml").read_text(encoding="utf-8")
    except OSError:
        raise HandledError("stages.yaml is missing: `git checkout -- stages.yaml` restores it") from None
    stages, _, milestones = text.partition("\nmilestones:")
    entry = re.compile(r"\bnumber: *(\d+),?\s+name: *(\w+)")
    told = {}
    for number, name in entry.findall(stages):
        stage = f"{number:0>2}"
        told[f"gate{stage}"] = (
            f"judge stage {name}, then train the milestone that it unlocks (-- --no-milestone: only judge)"
        )
        told[f"measure{stage}"] = (
            f"print the figures of the lesson on {name}, measured on this machine and your package"
        )
    for number, name in entry.findall(milestones):
        told[f"milestone{number}"] = f"train milestone {name} on the package in the checkout (-- --quick: a smoke run)"
    return {name: {"description": told[name]} for name in sorted(told)}


def environments() -> dict[str, dict[str, Any]]:
    """Every environment of this tree, with those of its settings that are not the same for all."""
    everybodys = {"list": {"description": "show the map: stages, what they need, milestones"}}
    return numbered() | everybodys | (AUTHORS if (ROOT / "workshop" / "author" / "__init__.py").is_file() else {})


@impl(optionalhook=True)  # a tox before 4.29 does not know it, and shall get as far as fetching a newer one
def tox_extend_envs() -> list[str]:
    return list(environments())


@impl
def tox_add_core_config(core_conf: CoreConfigSet, state: State) -> None:
    known = environments()
    default = ["tests" if "tests" in known else "list"]
    names = default if hasattr(spec, "tox_extend_envs") else list(known)  # the old tox must know what it is asked for
    core_conf.loaders.insert(0, MemoryLoader(env_list=EnvList(names)))
    for name, settings in known.items():
        own_venv = {"runner": "virtualenv", "env_dir": state.conf.core["work_dir"] / name}
        own = own_venv if "dependency_groups" in settings else {}
        state.conf.memory_seed_loaders[name].append(MemoryLoader(**settings, **own))


class SharedInfo(Info):
    """What tox has recorded about a venv, with one name for all environments that use it."""

    def compare(
        self, value: Any, section: str, sub_section: str | None = None
    ) -> AbstractContextManager[tuple[bool, Any]]:
        if section == ToxEnv.__name__ and isinstance(value, dict):
            value = {**value, "name": "shared"}
        return super().compare(value, section, sub_section)


class GateVenv(VirtualEnvRunner):
    """`runner = gate-venv`: tox's own runner, with a venv that several environments share."""

    ready = False

    @staticmethod
    def id() -> str:
        return "gate-venv"

    @property
    def cache(self) -> Info:
        return SharedInfo(self.env_dir)

    def setup(self) -> None:
        """Prepare the venv; one at a time, since `tox p` and a second tox would both write into it."""
        # tox spares a file of this name when it empties the folder.
        with FileLock(self.env_dir / "file.lock"):
            if GateVenv.ready:  # once made anew by `tox -r`, it is not taken from under the gate that runs in it
                self.conf.loaders.insert(0, MemoryLoader(recreate=False))
            super().setup()
            GateVenv.ready = True


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    register.add_run_env(GateVenv)


@impl
def tox_before_run_commands(tox_env: ToxEnv) -> None:
    """Give the command the terminal itself: tox would else paint its errors red, and on Windows show no progress."""
    options = tox_env.options
    in_turn = getattr(options, "parallel", 0) == 0
    if in_turn and sys.stdout.isatty() and not getattr(options, "result_json", None):
        options.no_capture = True
