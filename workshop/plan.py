"""What a judge is told to do."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

TIMEOUT = int(os.environ.get("TINYTORCH_JUDGE_TIMEOUT", 10))  # seconds for one test; a whole gate takes under two
HASTE = min(2, TIMEOUT)  # seconds for a test after one that took too long: what it used may loop again


@dataclass
class Plan:
    """What a judge is to do. It crosses to its process as JSON.

    Attributes:
        package: the folder that holds tinytorch/.
        gate: the file with the tests.
        modules: what the stage is made of, imported first.
        only: ids of the tests to run, in that order; all if empty.
        exercises: judge only tests about these; all if empty.
        done: ids of tests that ran already, in a process that died.
        earlier: gates of the stages before, for exercises that a failing test has called: path of the exercises' files
            to the gate.
        hung: whether a test took too long already.
        events: the file to write to; "" for standard output.
        pdb: whether a person at a terminal wants the debugger.
    """

    package: str
    gate: str
    modules: list[str]
    only: list[str] = field(default_factory=list)
    exercises: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    earlier: dict[str, str] = field(default_factory=dict)
    hung: bool = False
    events: str = ""
    pdb: bool = False

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Plan:
        return cls(**json.loads(text))
