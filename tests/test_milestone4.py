"""Milestone 4: its texts, n-grams and training by themselves; and as a program, on a copy of the reference."""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_milestones import append, few_lines, report, run

from milestones import m4_data, m4_ngrams, m4_training
from milestones.m4_data import LINE, Schedule, batches, entropy, sentences, split, windows
from milestones.models import gpt
from workshop import ROOT, WorkshopError
from workshop.judging import fingerprint, seeing_ahead

GPT = "m4_tinygpt"
STOP_IN_EPOCH_2 = """
_write_state = write_state
def write_state(path, state):
    if state["epoch"] == 2:
        raise KeyboardInterrupt
    _write_state(path, state)
"""

# Texts


def test_batches_are_windows_and_the_token_after_each() -> None:
    rates: list[float] = []
    schedule = Schedule(steps=8, batch=3, rate=0.5, warmup=2, epoch=4)
    of_epoch = batches(windows(np.arange(100), 5), schedule, 7, rates.append)
    first = list(of_epoch(0))
    assert len(first) == 4 and all(x.shape == y.shape == (3, 5) for x, y in first)
    for x, y in first:
        assert (np.diff(x) == 1).all() and (y == x + 1).all()
    assert rates == pytest.approx([0.25, 0.5 * 7 / 8, 0.5 * 6 / 8, 0.5 * 5 / 8])
    again, second = list(of_epoch(0)), list(of_epoch(1))
    assert all((a == b).all() for pair in zip(first, again) for a, b in zip(*pair))
    assert any((a != b).any() for (a, _), (b, _) in zip(first, second))
    assert rates[8:] == pytest.approx([0.5 * 4 / 8, 0.5 * 3 / 8, 0.5 * 2 / 8, 0.5 * 1 / 8])


def test_the_last_tenth_is_judged_and_nothing_else() -> None:
    codes = SimpleNamespace(encode=lambda text: [ord(c) for c in text], decode=lambda tokens: "".join(map(chr, tokens)))
    text = "".join(chr(32 + i % 90) for i in range(1007))
    data = split(codes, text, 10)
    assert (data.training, data.validation, data.wrong) == (text[:906], text[906:], 0)
    judged = [row for rows in data.judged.windows() for row in rows]
    assert [len(row) for row in judged] == [11] * 10 + [2]
    assert codes.decode(np.concatenate([row[1:] for row in judged])) == text[906:]
    assert codes.decode([row[0] for row in judged]) == "".join([text[905], *text[915::10]])
    some = [row for rows in replace(data.judged, every=3).windows() for row in rows]
    assert [list(row) for row in some] == [list(row) for row in judged[::3]]
    assert split(SimpleNamespace(encode=lambda text: [0] * len(text), decode=lambda tokens: "?"), text, 10).wrong > 1000


def test_entropy_is_that_of_the_lines() -> None:
    by_hand = (4 * np.log(32) + 2 * 1.75 * np.log(2)) / 38
    assert entropy() == pytest.approx(by_hand) and np.exp(entropy()) < 1.6
    lines = sentences(np.random.default_rng(0), 4000).splitlines(keepends=True)
    assert {len(line) for line in lines} == {LINE}
    told = [0.0, 0.0, 0.0]  # what the draws of a line tell: its names, and its verbs
    for line in lines:
        a, v, b, w = line[:4], line[5:10], line[11:15], line[26:31]
        assert line == f"{a} {v} {b}, and {b} {w} {a}.\n"
        told[0] -= 4 * np.log(1 / 32)
        told[1] -= np.log(m4_data.VERBS[v]) + np.log(m4_data.VERBS[w])
    assert sum(told) / (4000 * LINE) == pytest.approx(entropy(), rel=0.01)
    names = "".join(line[i : i + 4].lower() for line in lines for i in (0, 11))
    for place, letters in enumerate((m4_data.CONSONANTS, m4_data.VOWELS) * 2):
        found = [names[place::4].count(letter) / 8000 for letter in letters]
        assert sum(found) == pytest.approx(1) and found == pytest.approx([1 / len(letters)] * len(letters), rel=0.2)


def test_where_tiny_shakespeare_cannot_be_had_the_plays_are_learned(tmp_path: Path) -> None:
    (tmp_path / "plays.txt").write_bytes("Öl\n".encode())
    said: list[str] = []

    def fetch(name: str) -> Path:
        if name == "tinyshakespeare":
            raise WorkshopError("no network")
        return tmp_path

    asked = SimpleNamespace(given=[], fetch=fetch, say=said.append, noted=lambda name, content: content)
    assert m4_data.corpus(asked) == ("Öl\n", "shakespeare")
    assert "no network" in said[0] and "all figures are of them" in said[0]
    asked.given, said[:] = ["plays"], []
    assert m4_data.corpus(asked) == ("Öl\n", "shakespeare") and not said


def test_the_plays_are_spoken_text_of_the_size_that_their_notes_say() -> None:
    text = gzip.decompress((ROOT / "datasets" / "shakespeare" / "plays.txt.gz").read_bytes()).decode("ascii")
    notes = (ROOT / "datasets" / "shakespeare" / "README.md").read_text(encoding="utf-8")
    assert f"{len(text):,} characters" in notes and "Gutenberg" in notes
    assert text.count(":\n") > 5000 and "[" not in text and "ACT I" not in text and "\r" not in text


# Counting


def probabilities(count: Any, training: str, history: str, alphabet: str) -> list[float]:
    """Of each character of `alphabet` after `history`, which follows on `training`: by what one more of it costs."""
    codes = lambda text: m4_ngrams.codes(text, alphabet)
    cost = lambda text: len(text) * count(codes(training), codes(text), len(alphabet))
    return [float(np.exp(cost(history) - cost(history + character))) for character in alphabet]


def test_n_grams_share_out_one() -> None:
    training = "".join(np.random.default_rng(0).choice(list("abcd"), 300, p=[0.6, 0.2, 0.1, 0.1]))
    for history in ("a", "dcb", "ddddd"):
        for order in (2, 4):
            bell = lambda *given, order=order: m4_ngrams.witten_bell(*given, order)[-1]
            kneser = lambda *given, order=order: m4_ngrams.kneser_ney(*given, order)
            for count in (bell, kneser):
                found = probabilities(count, training, history, "abcd")
                assert sum(found) == pytest.approx(1) and min(found) > 0


def test_n_grams_by_hand() -> None:
    bell = lambda *given: m4_ngrams.witten_bell(*given, order=2)[-1]
    one = [(3 + 2 / 3) / 6, (1 + 2 / 3) / 6, (0 + 2 / 3) / 6]  # a came 3 times, b once, of 4; two kinds
    after_a = [(1 + 2 * one[0]) / 4, (1 + 2 * one[1]) / 4, (0 + 2 * one[2]) / 4]  # aa once, ab once; two kinds
    assert probabilities(bell, "aaba", "a", "abc") != after_a  # a comes after the last a of the training text too …
    assert probabilities(bell, "aaba", "ba", "abc") == pytest.approx(after_a)
    assert m4_ngrams.witten_bell(np.array([0, 0, 1, 0]), np.array([2]), 3, 1) == pytest.approx([-np.log(one[2])])


# Training


def tiny(tt: ModuleType) -> tuple[Any, Any]:
    tt.manual_seed(3)
    model = gpt(tt, 10, 8, width=8, layers=2, heads=2, dropout=0.1)
    return model, m4_training.make_trainer(tt, model)


def test_resumed_is_the_same_run_with_dropout_and_threads(tt: ModuleType, tmp_path: Path) -> None:
    asked, schedule = SimpleNamespace(seed=1), Schedule(6, 4, epoch=2)
    drawn_from = windows(np.random.default_rng(0).integers(10, size=200), 8)

    def train(trainer: Any, epochs: range) -> None:
        plan = m4_training.planned(asked, trainer, drawn_from, schedule)
        assert (plan.samples, plan.epochs, plan.unit) == (8, 3, "windows")
        for epoch in epochs:
            trainer.train_epoch(plan.batches(epoch))

    whole, trainer = tiny(tt)
    train(trainer, range(2))
    trainer.save_checkpoint(tmp_path / "last.npz")
    train(trainer, range(2, 3))
    resumed, trainer = tiny(tt)
    trainer.load_checkpoint(tmp_path / "last.npz")
    train(trainer, range(2, 3))
    assert fingerprint(resumed) == fingerprint(whole)


def test_matrices_decay_and_vectors_do_not(tt: ModuleType) -> None:
    model, trainer = tiny(tt)
    settings = [(each.weight_decay, each.betas) for each in trainer.optimizer.optimizers]
    assert settings == [(0.1, (0.9, 0.99)), (0.0, (0.9, 0.99))]
    shapes = [{p.ndim for p in each.params} for each in trainer.optimizer.optimizers]
    assert shapes == [{2}, {1}] and len(trainer.optimizer.params) == len(model.parameters())
    trainer.optimizer.lr = 0.25
    assert [each.lr for each in trainer.optimizer.optimizers] == [0.25, 0.25] and trainer.optimizer.lr == 0.25
    with pytest.raises(ValueError):
        trainer.optimizer.load_state_dict({"optimizers": []})


def test_a_model_that_looks_ahead_is_found_out(tt: ModuleType) -> None:
    model, _ = tiny(tt)
    tokens = np.random.default_rng(0).integers(10, size=8)
    assert seeing_ahead(tt, model, tokens) == 0
    for block in model.blocks:
        block.attention.forward = lambda x, mask, *more, forward=block.attention.forward: forward(x, None, *more)
    model.initialise(0.5)
    assert seeing_ahead(tt, model, tokens) > 0


# As a program


def make_package(folder: Path) -> Path:
    """The reference's package, and a text in place of the plays; tiny Shakespeare is nowhere."""
    shutil.copytree(ROOT / "solutions", folder, ignore=shutil.ignore_patterns("__pycache__"))
    data = folder / "datasets" / "shakespeare"
    data.mkdir(parents=True)
    names = np.random.default_rng(0).choice(["ROMEO", "JULIET", "NURSE"], 600)
    lines = sentences(np.random.default_rng(1), 600).splitlines()
    (data / "plays.txt").write_text("\n\n".join(f"{a}:\n{b}" for a, b in zip(names, lines)), encoding="utf-8")
    entry = {"archives": {}, "embedded": True, "addresses": [], "npm": None}
    content = (data / "plays.txt").read_bytes()
    files = {"plays.txt": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    tiny = {"input.txt": {"bytes": 1, "sha256": "0" * 64}}
    manifest = {"tinyshakespeare": {**entry, "files": tiny}, "shakespeare": {**entry, "files": files}}
    (folder / "datasets" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "package")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A package whose `out` holds a quick run with seed 5, and what that said. To be read only."""
    folder = make_package(tmp_path_factory.mktemp("quick") / "package")
    done = run(folder, GPT, "--quick", "--seed", "5")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_quick_run_goes_through_everything_and_never_counts_as_passed(quick: tuple[Path, str]) -> None:
    folder, said = quick
    found = report(folder)
    assert (found["passed"], found["quick"], found["seed"], found["given"]) == (False, True, 5, [])
    assert "never counts as passed" in said and "passed" not in said.splitlines()[-1]
    criteria = {each["what"]: (each["relation"], each["bound"], each["holds"]) for each in found["criteria"]}
    held = {what: each for what, each in criteria.items() if each[2]}
    assert held["parameters that moved, of 24"] == ("==", 24, True)
    assert held["gradient of the table of positions at the start, its norm"][:2] == (">", 0)
    assert held["tokens that the cache changes, of 224"][:2] == ("==", 0)
    assert held["characters that the tokenizer brings back wrong"][:2] == ("==", 0)
    assert held["logits that a later token changes"][:2] == ("==", 0)
    assert criteria["perplexity of a passage learned by heart"] == ("<", 1.1, None)
    assert criteria["characters of it recited wrong, of 350"] == ("==", 0, None)
    assert criteria["perplexity of a grammar's text, at best 1.535"] == ("<", 2.0, None)
    assert sum(holds is None for _, _, holds in criteria.values()) == 4 and len(criteria) == 10
    assert {f"{name}.png" for name in ("training", "samples", "attention", "neighbours", "speed")} == set(
        found["pictures"]
    )
    for name in found["pictures"]:
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG"), name


def test_figures_say_of_which_text_they_are(quick: tuple[Path, str]) -> None:
    folder, said = quick
    found = report(folder)
    metrics = found["metrics"]
    assert "The dataset tinyshakespeare is not here" in said and metrics["corpus"] == "shakespeare"
    asked = found["criteria"][0]
    assert asked["what"].startswith("nats a character on all of the last tenth of shakespeare, ")
    assert asked["bound"] == pytest.approx(metrics["nats a character by counting"]["5-gram"] - 0.069, abs=1e-3)
    assert set(found["data"]) == {"plays.txt"}
    assert "The plan asked for a validation perplexity below 2.0" in said
    assert list(metrics["texts by step"]) == ["0", "10", "20"]
    assert all(text.startswith("ROMEO:\n") for text in metrics["texts by step"].values())
    assert metrics["nats a character"] == pytest.approx(np.log(metrics["perplexity of a character"]))
    assert metrics["CPU seconds of training"] > 0 and metrics["peak memory in MB"] < 500
    assert metrics["perplexity of the grammar's text"]["by its true entropy"] == pytest.approx(1.535, abs=1e-3)
    assert metrics["memory kept between steps"] == (platform.libc_ver()[0] == "glibc")


@pytest.mark.full
def test_interrupted_and_resumed_is_the_same_run(quick: tuple[Path, str], package: Path) -> None:
    intact = (package / "tinytorch" / "core" / "checkpoints.py").read_bytes()
    append(package, "core/checkpoints.py", STOP_IN_EPOCH_2)
    stopped = run(package, GPT, "--quick", "--seed", "5")
    assert stopped.returncode == 130 and "keeps epoch 1, " in stopped.stdout, stopped.stderr
    (package / "tinytorch" / "core" / "checkpoints.py").write_bytes(intact)
    other = run(package, GPT, "--quick", "--seed", "5", "--long", "--resume")
    assert other.returncode == 2 and "was made with --seed 5 --quick: give the same" in other.stderr
    resumed = run(package, GPT, "--quick", "--seed", "5", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    for name in ("parameters sha256", "nats a character", "training loss", "texts by step", "recited"):
        assert report(package)["metrics"][name] == report(quick[0])["metrics"][name], name


@pytest.mark.full
def test_pairs_and_a_wrong_package(package: Path) -> None:
    append(package, "core/optimizers.py", "\nAdamW.step = lambda self: None\n")
    append(package, "text/bpe.py", "\nBPETokenizer.decode = lambda self, tokens: '?' * len(list(tokens))\n")
    done = run(package, GPT, "--quick", "--bpe")
    assert done.returncode == 1, done.stderr
    said = done.stdout.splitlines()[-1]
    assert "falls short: parameters that moved" in said and "; characters that the tokenizer brings back wrong" in said
    assert report(package)["given"] == ["bpe"] and report(package)["metrics"]["characters a token"] > 1


@pytest.mark.full
def test_no_text_at_all_is_told(package: Path) -> None:
    shutil.rmtree(package / "datasets" / "shakespeare")
    done = run(package, GPT, "--quick")
    assert done.returncode == 2
    assert "The dataset shakespeare is not here" in done.stderr and few_lines(done.stderr)
