"""Whom to blame: the rule by itself, on small made-up stages; `test_gates.py` holds it on the real ones."""

from __future__ import annotations

from workshop.blame import Unit, blamed, explanation


def fails(about: str, *called: str) -> Unit:
    return Unit(about, frozenset(called), failed=True)


def passes(about: str, *called: str) -> Unit:
    return Unit(about, frozenset(called), failed=False)


def test_what_is_wrong_by_itself_is_blamed_and_what_calls_it_is_not() -> None:
    units = [fails("mul", "mul"), fails("backward", "backward", "mul"), passes("backward", "backward", "add")]
    assert blamed(units) == {"mul"}
    assert explanation(units, "backward", {"mul"}) == "mul"


def test_an_exercise_with_a_fault_of_its_own_is_blamed_besides() -> None:
    units = [fails("mul", "mul"), fails("backward", "backward", "mul"), fails("backward", "backward", "add")]
    assert blamed(units) == {"mul", "backward"}
    assert explanation(units, "backward", {"mul"}) == ""


def test_the_unwritten_explain_what_called_them() -> None:
    units = [fails("backward", "backward", "record"), fails("record", "record")]
    assert blamed(units, known={"record"}) == frozenset()
    assert explanation(units, "backward", {"record"}) == "record"


def test_of_two_that_would_explain_all_the_one_that_never_passed_is_blamed() -> None:
    """Neither can be tested without the other; but one of them was called by much that is right."""
    units = [fails("order", "order", "backward"), fails("backward", "order", "backward"), passes("graph", "order")]
    assert blamed(units) == {"backward"}


def test_a_test_that_did_not_call_its_exercise_still_counts_for_it() -> None:
    assert blamed([fails("parameters")]) == {"parameters"}


def test_many_at_once_are_all_found() -> None:
    units = [fails(name, name, "base") for name in "abcde"] + [passes("base", "base")]
    assert blamed([*units, *(passes("base", "base") for _ in range(9))]) <= {*"abcde", "base"}
    alone = [fails(name, name) for name in "abcde"]
    assert blamed(alone) == set("abcde")


def test_nothing_fails_nobody_is_blamed() -> None:
    assert blamed([passes("a", "a")]) == frozenset()
    assert explanation([passes("a", "a")], "a", {"b"}) == ""
