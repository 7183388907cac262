"""Scoring answers that should be JSON."""

import pytest

from launcher.scoring import Score, canonical, score


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ('{"a":1,"b":[1,2]}', '\n { "b": [1, 2], "a": 1 }\n'),
        ('"é"', '"\\u00e9"'),
        ("[]", "[ ]"),
    ],
)
def test_same_meaning_is_exact(expected: str, answer: str) -> None:
    assert score([(expected, answer)]) == Score(answers=1, parsed=1, exact=1)


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        ("[1,2]", "[2,1]"),
        ("1", "true"),
        ("1", "1.0"),
        ("1", '"1"'),
        ('{"a":1}', '{"a":1,"b":null}'),
    ],
)
def test_other_meaning_only_parses(expected: str, answer: str) -> None:
    assert score([(expected, answer)]) == Score(answers=1, parsed=1, exact=0)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "sure: {}",
        '{"a":1',
        '{"a":1} {"a":1}',
        "NaN",
        "[-Infinity]",
        '{"a":1,"a":2}',
        "[" * 100_000,
    ],
)
def test_anything_but_json_does_not_parse(answer: str) -> None:
    assert canonical(answer) is None
    assert score([("{}", answer)]) == Score(answers=1, parsed=0, exact=0)


def test_shares() -> None:
    result = score([("1", "1"), ("1", "2"), ("1", "one"), ("1", "")])
    assert (result.parsed_share, result.exact_share) == (0.5, 0.25)


def test_no_answers_share_nothing() -> None:
    assert (score([]).parsed_share, score([]).exact_share) == (0.0, 0.0)


def test_expected_text_must_be_json() -> None:
    with pytest.raises(ValueError, match="not JSON: 'nope'"):
        score([("nope", "1")])
