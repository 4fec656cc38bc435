"""git, called as a person would call it, without what the surroundings might whisper to it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from workshop import WorkshopError


def clean_environment() -> dict[str, str]:
    """This process's environment without GIT_*: a malformed GIT_COMMITTER_DATE alone would kill fast-import."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {"LC_ALL": "C"}


def git(root: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    """What `git arguments` prints in the repository at `root`.

    Raises:
        WorkshopError: git failed, with what it said; or there is no git on this machine.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, input=stdin, capture_output=True, env=clean_environment(), check=False
        )
    except FileNotFoundError as error:
        raise WorkshopError("git was not found: install it, and see that `git --version` answers") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise WorkshopError(f"git {arguments[0]} failed in {root}: {said}")
    return done.stdout


def git_text(root: Path, *arguments: str) -> str:
    """The same as text, without the line end."""
    return git(root, *arguments).decode("utf-8", "replace").strip()
