import numpy as np
import pytest

from helpers.checks import LESSONS, check, quiz
from helpers.errors import InvalidInput

CASES = [(0,), (2,), (3,)]


def square(x):
    return x * x


def stub_none(x):
    """The learner's part."""


def stub_ellipsis(x):
    return ...


def stub_raises(x):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [stub_none, stub_ellipsis, stub_raises, None, ...])
def test_a_stub_is_not_tried_yet(stub):
    verdict = check(stub, square, CASES)
    assert verdict.state == "not tried yet"
    assert "Not tried yet" in repr(verdict)


def test_a_right_answer_passes():
    verdict = check(lambda x: x**2, square, CASES)
    assert verdict.passed
    assert "3 of 3" in repr(verdict)


def double(x):
    return x + x


def test_the_first_counterexample_stands_beside_the_spec():
    verdict = check(double, square, CASES)
    assert not verdict.passed
    assert (verdict.call, verdict.yours, verdict.spec) == ("double(3)", "6", "9")
    assert repr(verdict).endswith("double(3)\n    yours  6\n    spec   9")


def test_what_the_learners_code_raises_is_the_counterexample():
    verdict = check(lambda x: 1 / x, square, CASES)
    assert verdict.yours == "ZeroDivisionError: division by zero"


@pytest.mark.fault("what people feed in")
@pytest.mark.parametrize("error", [SystemExit, RecursionError, KeyError, AssertionError])
def test_no_error_of_the_learner_stops_the_notebook(error):
    def attempt(x):
        raise error("no")

    assert check(attempt, square, CASES).yours.startswith(error.__name__)


def test_an_error_of_the_spec_is_ours_and_is_raised():
    with pytest.raises(ZeroDivisionError):
        check(square, lambda x: 1 / x, CASES)


def test_a_branch_that_forgets_to_return_is_a_counterexample():
    verdict = check(lambda x: None if x == 0 else x * x, lambda x: x * x, CASES)
    assert (verdict.state, verdict.yours) == ("failed", "None")


def test_none_is_an_answer_where_the_spec_gives_none():
    assert check(stub_none, lambda x: None, CASES).passed


@pytest.mark.parametrize(
    ("yours", "spec"),
    [
        (0.1 + 0.2, 0.3),
        (float("nan"), float("nan")),
        (float("inf"), float("inf")),
        ([1, (2.0, 3)], [1.0, (2, 3)]),
        ({"a": 0.1 + 0.2}, {"a": 0.3}),
        (np.array([1.0, 2.0]), [1, 2]),
        (np.float64(3), 3),
        (1j, 1j + 1e-12),
        ("å", "å"),
    ],
)
def test_equal_values_agree_inside_containers_and_arrays(yours, spec):
    assert check(yours, spec).passed


@pytest.mark.parametrize(
    ("yours", "spec"),
    [(1.001, 1), ([1], (1,)), ([1, 2], [1]), ({"a": 1}, {"b": 1}), ("1", 1), (np.zeros(2), np.zeros(3)), (0, None)],
)
def test_different_values_do_not_agree(yours, spec):
    assert check(yours, spec).state == "failed"


def test_how_close_is_close_enough_can_be_said():
    assert not check(0.333, 1 / 3).passed
    assert check(0.333, 1 / 3, close=0.01).passed


def test_code_that_changes_its_arguments_changes_only_its_own_copy():
    cases = [([3, 1, 2],)]
    assert check(lambda numbers: numbers.sort() or numbers, sorted, cases).passed
    assert cases == [([3, 1, 2],)]


def test_markdown_shows_values_as_code_on_one_line():
    shown = check(lambda: "`a`\n**b**", "c")._repr_markdown_()
    assert shown.startswith("**✗ Not yet**:")
    assert "\n    yours  '`a`\\n**b**'\n" in shown


def test_a_long_value_is_cut():
    assert len(check("x" * 10_000, "y").yours) < 250


def test_a_check_without_a_case_is_refused():
    with pytest.raises(InvalidInput, match="at least one case"):
        check(square, square, [])


def test_a_quiz_counts_what_is_right_and_names_what_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.checks.LESSONS", tmp_path)
    text = "1. **b**. before the answers\n<summary>Answers</summary>\n\n1. **a**. Why.\n2. **c**. Why.\n"
    (tmp_path / "00_x.md").write_text(text, encoding="utf-8")
    assert repr(quiz("00_x", "a C")) == "✓ 2 of 2 right."
    assert "1 of 2 right. Read question 2 again" in repr(quiz("00_x", "ab"))
    assert "Not tried yet" in repr(quiz("00_x", " "))
    with pytest.raises(InvalidInput, match="2 questions, and 3 letters"):
        quiz("00_x", "abc")


def test_every_quiz_has_five_questions_with_an_answer_among_their_options():
    for path in LESSONS.glob("*.md"):
        questions, _, answers = path.read_text(encoding="utf-8").partition("<summary>Answers</summary>")
        if answers:
            assert questions.count("   - **a**") == questions.count("   - **c**") == 5, path.name
            assert quiz(path.stem, "aaaaa").right is not None
