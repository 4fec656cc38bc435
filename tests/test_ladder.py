"""Law 3: the ladder, in real repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run_git, run_workshop

from workshop.course import Course, Stage

Stages = tuple[Stage, ...]
FORBIDDEN = ("solutions/", "tests/", "gates/mistakes/", "benchmarks/", "CONTRIBUTING.md", ".ci/", "workshop/author/")


def refs(folder: Path) -> dict[str, str]:
    listing = run_git(folder, "for-each-ref", "--format=%(refname) %(objectname)", "refs/tags", "refs/solutions")
    return dict(line.split() for line in listing.splitlines())


def files(folder: Path, ref: str) -> set[str]:
    return set(run_git(folder, "ls-tree", "-r", "--name-only", ref).splitlines())


def test_refs_are_all_there(origin: Path, course: Course) -> None:
    labels = [stage.label for stage in course.stages]
    expected = {f"refs/tags/{kind}-{label}" for kind in ("stage", "handout") for label in labels}
    assert set(refs(origin)) == expected | {f"refs/solutions/{label}" for label in labels}


def test_ids_are_the_same_for_everybody(origin: Path, clone: Callable[..., Path]) -> None:
    """In another clone, time zone, identity and with a malformed date in the environment."""
    other = clone()
    run_git(other, "tag", "-d", *run_git(other, "tag").split())
    done = run_workshop(
        other,
        "stages",
        TZ="Asia/Kathmandu",
        GIT_AUTHOR_NAME="Somebody",
        GIT_AUTHOR_EMAIL="else@example.org",
        GIT_COMMITTER_DATE="no date at all",
        GIT_DIR="/nowhere",
        LANG="C",
    )
    assert done.returncode == 0, done.stderr
    assert refs(other) == refs(origin)


def test_cutting_again_changes_nothing(clone: Callable[..., Path]) -> None:
    folder = clone()
    run_workshop(folder, "stages")
    before = refs(folder)
    assert run_workshop(folder, "stages").returncode == 0
    assert refs(folder) == before


def test_cutting_after_a_change_moves_the_tags(clone: Callable[..., Path]) -> None:
    folder = clone()
    before = refs(folder)
    (folder / "README.md").write_text("changed\n", encoding="utf-8")
    picture = bytes(range(256)) + b"\r\n\n\x89PNG data 5\n"
    pictures = {"measure.png": picture, "idea.svg": b"<svg/>\n", "pictures.py": b"# draws idea.svg\n"}
    for name, content in pictures.items():
        (folder / "stages" / "01_tensor" / name).write_bytes(content)
    run_git(folder, "add", "-A")
    run_git(folder, "commit", "-qm", "another README, and pictures")
    assert run_workshop(folder, "stages").returncode == 0
    after = refs(folder)
    assert all(after[ref] != before[ref] for ref in before)
    run_git(folder, "switch", "-q", "-c", "mine", "stage-02")
    for name, content in pictures.items():
        assert (folder / "stages" / "01_tensor" / name).read_bytes() == content, "a lesson's pictures go with it"
    assert run_git(folder, "rev-list", "--count", "stage-01").strip() == "1", "a root commit landed on the old one"


def test_parents(origin: Path, course: Course) -> None:
    def parents(ref: str) -> list[str]:
        return run_git(origin, "rev-list", "--parents", "-n1", ref).split()[1:]

    ids = refs(origin)
    first = course.stages[0].label
    assert ids[f"refs/tags/stage-{first}"] == ids[f"refs/tags/handout-{first}"] and parents(f"handout-{first}") == []
    for before, stage in zip(course.stages, course.stages[1:]):
        handout, old = f"refs/tags/handout-{stage.label}", f"refs/tags/handout-{before.label}"
        assert parents(handout) == [ids[old]]
        assert parents(f"stage-{stage.label}") == [ids[handout], ids[f"refs/solutions/{before.label}"]]
        assert parents(f"refs/solutions/{stage.label}") == [ids[f"refs/tags/stage-{stage.label}"]]


def test_each_handout_only_adds(origin: Path, course: Course) -> None:
    for before, stage in zip(course.stages, course.stages[1:]):
        for line in run_git(
            origin, "diff", "--numstat", f"handout-{before.label}", f"handout-{stage.label}"
        ).splitlines():
            added, deleted, path = line.split("\t")
            if added == deleted == "-":  # a picture; that it is new, the next test sees
                continue
            assert deleted == "0", f"handout-{stage.label} takes {deleted} lines from {path}"
            assert added != "0"


def test_a_stage_owns_its_files(origin: Path, course: Course) -> None:
    """Law 2: no stage edits a file that an earlier one brought."""
    for before, stage in zip(course.stages, course.stages[1:]):
        changes = run_git(
            origin, "diff", "--name-status", f"handout-{before.label}", f"handout-{stage.label}"
        ).splitlines()
        assert [line for line in changes if not line.startswith("A\t")] == []


def test_trees_hold_what_a_student_needs_and_no_more(origin: Path, course: Course, chosen: Stages) -> None:
    main = files(origin, "main")
    for stage in chosen:
        here = [other for other in course.stages if other.number <= stage.number]
        later = [other for other in course.stages if other.number > stage.number]
        for ref in (f"handout-{stage.label}", f"stage-{stage.label}", f"refs/solutions/{stage.label}"):
            tree = files(origin, ref)
            assert [path for path in tree if path.startswith(FORBIDDEN)] == []
            for other in here:
                assert {*other.files, other.gate, other.records, other.lesson, f"{other.folder}/measure.py"} <= tree
            for other in later:
                own = (*other.files, other.gate, other.records, f"{other.folder}/")
                assert not [path for path in tree if path.startswith(own)]
            for milestone in course.milestones:
                parts = {path for path in main if path.startswith(milestone.prefix)}
                assert milestone.script in parts
                assert parts & tree == (parts if milestone.stages[-1] <= stage.number else set())
            for path in (
                "stages.yaml",
                "tox.ini",
                "toxfile.py",
                "pyproject.toml",
                "README.md",
                "LICENSE",
                ".gitattributes",
                ".gitignore",
                "workshop/gate.py",
                "datasets/manifest.json",
                "milestones/models.py",
            ):
                assert path in tree, f"{ref} lacks {path}"


def test_no_solution_text_in_a_handout(origin: Path, chosen: Stages) -> None:
    """No line of any exercise's body reaches a handout, wherever it might stand."""
    from workshop.stub import find

    for stage in chosen:
        for exercise in stage.exercises:
            solved = run_git(origin, "show", f"main:solutions/{exercise.path}")
            span = find(solved, exercise.symbol, exercise.path)
            body = [line.strip() for line in solved.splitlines()[span.body : span.end] if len(line.strip()) > 30]
            stub = run_git(origin, "show", f"handout-{stage.label}:{exercise.path}")
            kept = find(stub, exercise.symbol, exercise.path)
            text = "\n".join(stub.splitlines()[kept.body : kept.end])
            assert [line for line in body if line in text] == []
            assert "NotImplementedError" in text


def test_common_files_are_the_same_on_every_rung(origin: Path, course: Course, chosen: Stages) -> None:
    """Law 2: the package's `__init__`, the map, tox and the machinery never change on the way up."""
    common = (
        "tinytorch/__init__.py",
        "tinytorch/_names.py",
        "stages.yaml",
        "tox.ini",
        "toxfile.py",
        "workshop",
        "datasets",
    )
    first = course.stages[0].label
    for stage in chosen[1:]:
        for ref in (f"handout-{stage.label}", f"stage-{stage.label}"):
            assert run_git(origin, "diff", "--name-only", f"handout-{first}", ref, "--", *common) == ""


def test_the_answer_key(origin: Path, chosen: Stages) -> None:
    """`git diff stage-NN refs/solutions/NN` is exactly stage NN's exercises, and gives the reference's own text."""
    for stage in chosen:
        changed = run_git(
            origin, "diff", "--name-only", f"stage-{stage.label}", f"refs/solutions/{stage.label}"
        ).split()
        assert set(changed) == {exercise.path for exercise in stage.exercises}
        for path in changed:
            reference = run_git(origin, "show", f"main:solutions/{path}")
            assert run_git(origin, "show", f"refs/solutions/{stage.label}:{path}") == reference


def test_was_the_harness_touched(clone: Callable[..., Path], course: Course) -> None:
    last = course.stages[-1]
    folder = clone(f"stage-{last.label}")
    run_git(folder, "switch", "-q", "-c", "student")
    harness = ("diff", "--quiet", f"handout-{last.label}", "student", "--", "gates", "tox.ini", "workshop")
    path = folder / last.files[0]
    path.write_text(path.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    run_git(folder, "commit", "-qam", "work")
    run_git(folder, *harness)
    gate = folder / last.gate
    gate.write_text(gate.read_text(encoding="utf-8") + "# weaker\n", encoding="utf-8")
    run_git(folder, "commit", "-qam", "cheat")
    with pytest.raises(AssertionError):
        run_git(folder, *harness)


def test_a_plain_clone_brings_no_solutions_refs(clone: Callable[..., Path]) -> None:
    assert not [ref for ref in refs(clone()) if ref.startswith("refs/solutions")]


# What a cut must never harm


def test_uncommitted_work_is_never_touched(clone: Callable[..., Path]) -> None:
    folder = clone()
    (folder / "README.md").write_text("half a sentence", encoding="utf-8")
    (folder / "workshop" / "git.py").open("a", encoding="utf-8").write("# staged\n")
    run_git(folder, "add", "workshop/git.py")
    (folder / "notes.txt").write_text("new", encoding="utf-8")
    before = run_git(folder, "status", "--porcelain")
    done = run_workshop(folder, "stages")
    assert done.returncode == 0, done.stderr
    assert run_git(folder, "status", "--porcelain") == before
    assert (folder / "README.md").read_text(encoding="utf-8") == "half a sentence"
    assert "README.md" in done.stdout and "notes.txt" in done.stdout, "it must say what was left out"
    assert "half a sentence" not in run_git(folder, "show", "handout-01:README.md")


@pytest.mark.parametrize("annotated", [False, True])
def test_a_students_own_tag_is_never_moved(clone: Callable[..., Path], annotated: bool) -> None:
    folder = clone()
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    run_git(folder, "add", "mine.txt")
    run_git(folder, "commit", "-qm", "mine")
    run_git(folder, "tag", "-f", *(["-a", "-m", "my tag"] if annotated else []), "stage-02")
    before = refs(folder)
    done = run_workshop(folder, "stages")
    assert done.returncode == 2
    assert "refs/tags/stage-02" in done.stderr and "git tag my-stage-02 stage-02" in done.stderr
    assert len(done.stderr.splitlines()) <= 4 and "Traceback" not in done.stderr
    assert refs(folder) == before


def test_a_branch_of_a_tags_name(clone: Callable[..., Path]) -> None:
    folder = clone()
    run_git(folder, "branch", "handout-03")
    done = run_workshop(folder, "stages")
    assert done.returncode == 2 and "git branch -m handout-03" in done.stderr and "Traceback" not in done.stderr


def test_a_stage_cannot_be_cut_from(clone: Callable[..., Path]) -> None:
    done = run_workshop(clone("stage-02"), "stages")
    assert done.returncode == 2 and "main" in done.stderr and "Traceback" not in done.stderr


def test_an_archive_is_no_repository(author: Path) -> None:
    import shutil

    shutil.rmtree(author / ".git", onerror=lambda f, path, e: (Path(path).chmod(0o700), f(path)))
    done = run_workshop(author, "stages")
    assert done.returncode == 2 and "git clone" in done.stderr and "Traceback" not in done.stderr
