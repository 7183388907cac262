"""Edits to YAML text: what is not edited stays to the letter, and PyYAML reads what was meant."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from launcher.migrate import text
from launcher.migrate.edits import Edit, Put, Remove, Rename, apply

BLOCK = """\
# head
a: 1  # one

# before b
b:
  - x: yes   # a switch
    y: |
      long
      text

    # in the list
    z: 010
  - {x: "q, r", y: [1, 2]}
c: {d: 2e-4}
# before e
e:
f: 'last'
"""


@pytest.mark.parametrize(
    ("edit", "gone", "new"),
    [
        (Rename(("a",), "aa"), "a: 1  # one", "aa: 1  # one"),
        (Rename(("b", 0, "z"), "zz"), "    z: 010", "    zz: 010"),
        (Rename(("b", 1, "y"), "yy"), '"q, r", y:', '"q, r", yy:'),
        (Remove(("a",)), "a: 1  # one\n", ""),
        (Remove(("e",)), "e:\n", ""),
        (Remove(("f",)), "f: 'last'\n", ""),
        (Remove(("b", 0, "y")), "    y: |\n      long\n      text\n", ""),
        (Remove(("b", 0, "x")), "x: yes   # a switch\n    y", "y"),
        (Remove(("b", 1, "x")), '{x: "q, r", y', "{y"),
        (Remove(("b", 1, "y")), ", y: [1, 2]}", "}"),
        (Put(("a",), "no"), "a: 1  #", "a: 'no'  #"),
        (Put(("e",), True), "e:\n", "e: true\n"),
        (Put(("c", "d"), {"k": [1]}), "2e-4", "{k: [1]}"),
        (Put(("b", 0, "w"), "1e3", after="y"), "      text\n", "      text\n    w: 1e3\n"),
        (Put(("b", 1, "w"), "a, b"), "[1, 2]}", "[1, 2], w: 'a, b'}"),
        (Put(("g",), "x: y"), "f: 'last'\n", "f: 'last'\ng: 'x: y'\n"),
        (Put(("b",), 3), BLOCK[BLOCK.index("- x") : BLOCK.index("\nc:")], "3"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("ended", [True, False])
def test_only_the_place_is_edited(
    edit: Edit, gone: str, new: str, newline: str, *, ended: bool
) -> None:
    before, expected = BLOCK, BLOCK.replace(gone, new, 1)
    assert expected != before
    meant: dict[str, Any] = yaml.safe_load(before)
    apply(meant, edit)
    before = before.replace("\n", newline)
    after = text.edited(before if ended else before.rstrip(), edit)
    assert yaml.safe_load(after) == meant
    assert after.rstrip() == expected.replace("\n", newline).rstrip()


def test_a_config_inside_a_launch_recipe() -> None:
    before = "config:\n  a: 1\n  b: 2\nset: {}\n"
    assert text.edited(before, Remove(("a",)), ("config",)) == "config:\n  b: 2\nset: {}\n"
    put = Put(("c",), [1], after="a")
    assert "  a: 1\n  c: [1]\n  b: 2\n" in text.edited(before, put, ("config",))


@pytest.mark.parametrize(
    ("before", "edit"),
    [
        ("a: &x {k: 1}\nb:\n  <<: *x\n  l: 2\n", Rename(("b", "k"), "m")),
        ("a: {}\n", Put(("a", "k"), 1)),
        ("a: 1\n", Rename(("z",), "y")),
        ("a: {k: 1}\n", Remove(("a", "k"))),
        ("a: [1]\n", Put(("a", 3, "k"), 1)),
    ],
)
def test_what_cannot_be_edited_is_said(before: str, edit: Edit) -> None:
    with pytest.raises(text.CannotEdit):
        text.edited(before, edit)


@pytest.mark.parametrize(
    "value",
    ["yes", "010", "2e-4", "1_000", "", "a: b", "# x", "null", "q\nr", 0.0001, 1e-9, None, ["a,b"]],
)
def test_a_value_is_spelled_so_that_pyyaml_reads_it_back(value: Any) -> None:
    spelled = text.spelled(value)
    assert "\n" not in spelled
    assert yaml.safe_load(f"k: {spelled}") == {"k": value}
    assert yaml.safe_load(f"{{k: {spelled}, l: 1}}") == {"k": value, "l": 1}
