"""A later attempt in the same run directory goes on from the newest complete checkpoint."""

from __future__ import annotations

import pytest
from runner_rig import Rig, step

SAYS = "import sys; print('given', ascii(sys.argv[1:]))"
AGAIN = ["--more", {"prefix": "--from=", "newest": True}, {"prefix": "--in=", "path": "output"}]


def checkpoint(rig: Rig, name: str, *, whole: bool) -> None:
    folder = rig.folder / "output" / name
    folder.mkdir(parents=True)
    (folder / "weights").write_text("w")
    if whole:
        (folder / "done").write_text("1")


@pytest.mark.parametrize("attempt", [1, 2])
def test_only_a_later_attempt_is_given_more(rig: Rig, attempt: int) -> None:
    rig.plan(
        step(SAYS, "first", again=AGAIN),
        checkpoint={"glob": "output/checkpoint-*", "requires": [["done"]]},
    )
    checkpoint(rig, "checkpoint-9", whole=True)
    checkpoint(rig, "checkpoint-10", whole=True)
    checkpoint(rig, "checkpoint-11", whole=False)
    rig.run()
    if attempt == 2:
        rig.run("--attempt")
    newest = f"--from={rig.folder}/output/checkpoint-10"
    more = ["--more", newest, f"--in={rig.folder}/output"]
    assert rig.texts()[-1] == f"given {['first', *(more if attempt == 2 else [])]!a}"


def test_where_nothing_is_complete_it_begins_as_it_was(rig: Rig) -> None:
    rig.plan(
        step(SAYS, "first", again=AGAIN),
        checkpoint={"glob": "output/checkpoint-*", "requires": [["done"]]},
    )
    checkpoint(rig, "checkpoint-1", whole=False)
    rig.run()
    rig.run("--attempt")
    assert rig.texts() == ["given ['first']", "given ['first']"]
