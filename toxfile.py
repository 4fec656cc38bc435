"""tox plugin, read by tox itself: one virtual environment for all gates, and the real terminal for what runs in it.

tox keeps in a venv the name of the environment that made it, and empties the venv for an environment of another name.
With nineteen gates that is either nineteen venvs or a new one at each switch. `SharedInfo` keeps one constant name
instead; all else that tox records (interpreter, dependencies) still decides when the venv is made anew. Should a later
tox record the name in another way, each switch would make a new venv again, and tests/test_tox.py would tell.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from filelock import FileLock
from tox.config.loader.memory import MemoryLoader
from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


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
