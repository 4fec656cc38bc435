"""The ladder: every stage as a git tag, cut from a commit of main in one `git fast-import`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from workshop import ROOT, WorkshopError
from workshop.author.package import PACKAGE, SOLUTIONS, assemble, check
from workshop.course import Course, Stage, parse_course
from workshop.git import git, git_text

# The same on every machine, so that the ids are.
WHO = "TinyTorch Workshop <workshop@tinytorch.invalid>"
WHEN = "1577836800 +0000"
# What every tag holds, whatever its stage.
COMMON = (
    "workshop/",
    "datasets/",
    "milestones/",
    "stages.yaml",
    "tox.ini",
    "toxfile.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".gitattributes",
    ".gitignore",
)
NOT_COMMON = re.compile(r"workshop/author/|milestones/m\d+_")  # the author's tools, and what a milestone has for itself


@dataclass(frozen=True)
class Rung:
    """One commit of the ladder."""

    refs: tuple[str, ...]
    message: str
    solved: range
    stubbed: range
    parents: tuple[str, ...]  # refs of earlier rungs


@dataclass(frozen=True)
class Cut:
    """What cutting did."""

    refs: dict[str, str]  # ref to id
    left_out: list[str]  # paths with changes that no commit holds yet


def handout(stage: Stage) -> str:
    return f"refs/tags/handout-{stage.label}"


def start(stage: Stage) -> str:
    return f"refs/tags/stage-{stage.label}"


def solution(stage: Stage) -> str:
    return f"refs/solutions/{stage.label}"


def rungs(course: Course) -> Iterator[Rung]:
    """The ladder from the bottom up. A stage is named by its place in the map, so numbers may have gaps."""
    before: Stage | None = None
    for i, stage in enumerate(course.stages):
        todo = f"{stage.label} {stage.name}"
        if before is None:
            yield Rung((handout(stage), start(stage)), f"Stage {todo}, to be written", range(0), range(1), ())
        else:
            yield Rung(
                (handout(stage),), f"Stages to {todo}, all to be written", range(0), range(i + 1), (handout(before),)
            )
            parents = (handout(stage), solution(before))
            yield Rung((start(stage),), f"Stage {todo}, to be written", range(i), range(i, i + 1), parents)
        yield Rung(
            (solution(stage),), f"Stage {todo}, as the reference solves it", range(i + 1), range(0), (start(stage),)
        )
        before = stage


def cut(root: Path = ROOT, commit: str = "HEAD", correct: bool = False) -> Cut:
    """Write all refs of the ladder, cut from what `commit` holds. The work tree and the index are never touched.

    Args:
        correct: put the new ladder on top of the one that is there, so that who has merged handouts of the old one gets
            the corrections with the next. Otherwise a ladder begins anew, with the same ids everywhere.

    Raises:
        WorkshopError: `commit` has no solutions/, or a branch or a tag that is not the workshop's own has a name
            that is needed; then nothing is written.
    """
    if not (root / ".git").exists():
        raise WorkshopError(f"{root} is no git repository: get the workshop by `git clone`, not as an archive")
    blobs = _blobs(root, commit)
    if not any(path.startswith(f"{SOLUTIONS}/") for path in blobs):
        raise WorkshopError(f"stages are cut from a commit that holds {SOLUTIONS}/, such as main; {commit} holds none")
    texts = _read(root, {path: blob for path, blob in blobs.items() if path.startswith(f"{SOLUTIONS}/{PACKAGE}/")})
    source = {path.removeprefix(f"{SOLUTIONS}/"): text for path, text in texts.items()}
    course = parse_course(_read(root, {"stages.yaml": blobs["stages.yaml"]})["stages.yaml"])
    check(course, source, blobs)
    ladder = list(rungs(course))
    _refuse_foreign(root, [ref for rung in ladder for ref in rung.refs])
    before = {ref: id for ref, id in _ids(root).items() if correct and "/handout-" in ref}
    stream = b"".join(_stream(course, ladder, source, blobs, before))
    git(root, "fast-import", "--quiet", "--force", "--date-format=raw", stdin=stream)
    ids = _ids(root)
    return Cut({ref: ids[ref] for rung in ladder for ref in rung.refs}, uncommitted(root))


def _ids(root: Path) -> dict[str, str]:
    listing = git_text(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/tags", "refs/solutions")
    return dict(line.split() for line in listing.splitlines())


def uncommitted(root: Path) -> list[str]:
    """Paths whose content no commit holds."""
    lines = git(root, "status", "--porcelain", "-z").decode("utf-8", "replace").split("\0")
    return [line[3:] for line in lines if line[2:3] == " "]


def _blobs(root: Path, commit: str) -> dict[str, str]:
    """Every file of `commit`: path to the id of its content."""
    entries = git(root, "ls-tree", "-r", "-z", commit).decode("utf-8").split("\0")
    return {path: head.split()[2] for head, path in (entry.split("\t", 1) for entry in entries if entry)}


def _read(root: Path, blobs: dict[str, str]) -> dict[str, str]:
    """The text of each of `blobs`, by one git process."""
    answer = git(root, "cat-file", "--batch", stdin="\n".join(blobs.values()).encode())
    texts, at = {}, 0
    for path in blobs:
        header_end = answer.index(b"\n", at)
        size = int(answer[at:header_end].split()[2])
        texts[path] = answer[header_end + 1 : header_end + 1 + size].decode("utf-8")
        at = header_end + size + 2
    return texts


def _refuse_foreign(root: Path, refs: list[str]) -> None:
    """Raise unless each of `refs` is free or one of ours from an earlier cut, and no branch has its name."""
    listing = git_text(root, "for-each-ref", "--format=%(refname)%09%(objecttype)%09%(committername) %(committeremail)")
    existing = {line.split("\t")[0]: line.split("\t")[1:] for line in listing.splitlines()}
    for ref in refs:
        name = ref.rpartition("/")[2]
        if ref in existing and existing[ref] != ["commit", WHO]:
            keep = f"git tag my-{name} {name}; git tag -d {name}" if "tags" in ref else f"git update-ref -d {ref}"
            raise WorkshopError(
                f"{ref} exists and was not cut by the workshop; nothing was changed. To keep it: {keep}"
            )
        if ref.startswith("refs/tags/") and f"refs/heads/{name}" in existing:
            raise WorkshopError(
                f"a branch is named {name}, as a tag of the workshop must be; nothing was changed. "
                f"Rename it: git branch -m {name} my-{name}"
            )


def _stream(
    course: Course, ladder: list[Rung], source: dict[str, str], blobs: dict[str, str], before: dict[str, str]
) -> Iterator[bytes]:
    """What `git fast-import` reads. `before`: commits of an earlier ladder to build on, by their ref."""
    marks: dict[str, int] = {}
    for mark, rung in enumerate(ladder, 1):
        marks.update(dict.fromkeys(rung.refs, mark))
        first = rung.refs[0]
        parents = [f":{marks[parent]}" for parent in rung.parents] + [before[ref] for ref in rung.refs if ref in before]
        if not parents:
            yield f"reset {first}\n\n".encode()  # or a root commit would land on what the ref points to now
        yield f"commit {first}\nmark :{mark}\nauthor {WHO} {WHEN}\ncommitter {WHO} {WHEN}\n".encode()
        yield _data(rung.message)
        for word, parent in zip(("from", "merge", "merge"), parents):
            yield f"{word} {parent}\n".encode()
        yield b"deleteall\n"
        for path, content in sorted(_tree(course, rung, source, blobs).items()):
            if content is None:
                yield f"M 100644 {blobs[path]} {path}\n".encode()
            else:
                yield f"M 100644 inline {path}\n".encode() + _data(content)
        for ref in rung.refs[1:]:
            yield f"reset {ref}\nfrom :{mark}\n\n".encode()


def _data(text: str) -> bytes:
    content = text.encode("utf-8")
    return b"data %d\n%s\n" % (len(content), content)


def _tree(course: Course, rung: Rung, source: dict[str, str], blobs: Collection[str]) -> dict[str, str | None]:
    """What a rung's tree holds: path to text, or to None for a file as the commit has it."""
    here = [course.stages[i] for i in (*rung.solved, *rung.stubbed)]
    numbers = {stage.number for stage in here}
    own = [prefix for stage in here for prefix in (f"{stage.folder}/", stage.gate, stage.records)]
    own += [milestone.prefix for milestone in course.milestones if milestone.stages[-1] in numbers]
    tree: dict[str, str | None] = {
        path: None
        for path in blobs
        if path.startswith(tuple(own)) or (path.startswith(COMMON) and not NOT_COMMON.match(path))
    }
    solved, stubbed = ({course.stages[i].number for i in part} for part in (rung.solved, rung.stubbed))
    return tree | assemble(course, source, solved, stubbed)
