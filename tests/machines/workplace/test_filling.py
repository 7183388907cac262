"""Caches at the far end: filled by one at a time, and complete or not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from far_rig import Far, until

FILES: list[list[Any]] = [["sub/weights", 5], ["config", 2]]


class Filler:
    """Somebody who fills a cache, as the near end does."""

    def __init__(self, far: Far, token: str, *, patience_s: float = 60) -> None:
        self.folder = far.root / "caches" / "key"
        self.process = far.popen(
            "filling",
            "fill",
            cache_root=str(self.folder.parent),
            key="key",
            token=token,
            expiry_s=90,
            patience_s=patience_s,
        )

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line)["is"] if line else None

    def hear_past(self, noise: str) -> Any:
        while (said := self.hear()) == noise:
            pass
        return said

    def say(self, what: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; what it said last can be heard
            self.process.stdin.write(what)
            self.process.stdin.flush()

    def bring(self) -> None:
        for name, size in FILES:
            path = self.folder / "tree" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"w" * size)

    def seal(self, files: object = FILES) -> Any:
        self.say(json.dumps(files).encode() + b"\n")
        return self.hear()

    def leave(self) -> None:
        """Close our end; it ends by that."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(timeout=60)

    def die(self) -> None:
        self.process.kill()
        self.process.wait()


def held(far: Far) -> bool:
    answer = far.ask("filling", "look", cache_root=str(far.root / "caches"), keys=["key"])
    return bool(answer["missing"] == [])


def claims(far: Far) -> list[str]:
    return [path.name for path in (far.root / "caches").iterdir() if path.name != "key"]


def filled(far: Far) -> Path:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    one.bring()
    assert one.seal() == "sealed"
    one.leave()
    return one.folder


def test_a_cache_is_there_when_it_is_sealed_and_not_before(far: Far) -> None:
    assert not held(far)
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    one.bring()
    assert not held(far)
    assert one.seal() == "sealed"
    one.leave()
    assert held(far)
    assert claims(far) == []
    again = Filler(far, "two")
    assert again.hear() == "complete"
    again.leave()


def test_who_comes_second_waits_and_finds_it_complete(far: Far) -> None:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    two = Filler(far, "two")
    assert two.hear() == "waiting"
    one.bring()
    assert one.seal() == "sealed"
    assert two.hear_past("waiting") == "complete"
    one.leave()
    two.leave()
    assert claims(far) == []


def test_who_leaves_in_the_middle_makes_room_for_the_next(far: Far) -> None:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    two = Filler(far, "two")
    assert two.hear() == "waiting"
    one.leave()
    assert two.hear_past("waiting") == "claimed"
    two.leave()


def test_silence_lets_go_of_the_claim(far: Far) -> None:
    one = Filler(far, "one", patience_s=0.1)
    assert one.hear() == "claimed"
    assert one.hear() == "left alone"
    assert claims(far) == []
    one.leave()


def test_signs_of_life_keep_the_claim(far: Far) -> None:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    lock = one.folder.parent / "key.lock" / "one"
    os.utime(lock, (1, 1))
    one.say(b"\n")
    until("the renewal", lambda: lock.stat().st_mtime > 1)
    one.leave()


def test_a_claim_of_a_machine_that_is_gone_expires(far: Far) -> None:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    one.die()
    assert claims(far) == ["key.lock"]
    two = Filler(far, "two")
    assert two.hear() == "waiting"
    for path in (one.folder.parent / "key.lock" / "one", one.folder.parent / "key.lock"):
        os.utime(path, (1, 1))
    assert two.hear_past("waiting") == "claimed"
    two.bring()
    assert two.seal() == "sealed"
    two.leave()
    assert claims(far) == []


def test_who_lost_the_claim_learns_it_and_takes_nothing_away(far: Far) -> None:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    lock = one.folder.parent / "key.lock"
    shutil.rmtree(lock)
    two = Filler(far, "two")
    assert two.hear() == "claimed"
    one.say(b"\n")
    assert one.hear() == "lost"
    one.leave()
    assert [path.name for path in lock.iterdir()] == ["two"]
    two.leave()


@pytest.mark.parametrize("spoil", ["shorter", "gone", "other", "link"])
def test_a_cache_that_was_touched_is_not_there(far: Far, spoil: str) -> None:
    path = filled(far) / "tree" / "sub" / "weights"
    if spoil == "shorter":
        path.write_bytes(b"w")
    elif spoil == "other":
        path.write_bytes(b"x" * 5)
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
        if spoil == "link":
            path.symlink_to("../config")
    assert not held(far)


def test_what_a_job_adds_to_a_cache_does_not_spoil_it(far: Far) -> None:
    (filled(far) / "tree" / "added").write_bytes(b"")
    assert held(far)


def test_a_seal_is_refused_when_not_all_is_there(far: Far) -> None:
    one = Filler(far, "one")
    assert one.hear() == "claimed"
    one.bring()
    assert one.seal([*FILES, ["third", 1]]) == "incomplete"
    one.leave()
    two = Filler(far, "two")
    assert two.hear() == "claimed"
    assert two.seal([["config", 3]]) == "incomplete"
    two.leave()
    assert not held(far)


def test_of_many_at_once_one_fills_it(far: Far) -> None:
    fillers = [Filler(far, f"token{number}") for number in range(6)]
    first = [filler.hear() for filler in fillers]
    assert sorted(first) == ["claimed", *["waiting"] * 5]
    owner = fillers[first.index("claimed")]
    owner.bring()
    assert owner.seal() == "sealed"
    for filler in fillers:
        assert filler is owner or filler.hear_past("waiting") == "complete"
        filler.leave()
    assert claims(far) == []


def test_an_expired_claim_is_taken_by_one_of_many(far: Far) -> None:
    lock = far.root / "caches" / "key.lock"
    lock.mkdir(parents=True)
    (lock / "dead").touch()
    for path in (lock / "dead", lock):
        os.utime(path, (1, 1))
    fillers = [Filler(far, f"token{number}") for number in range(4)]

    def taken() -> bool:
        with contextlib.suppress(FileNotFoundError):  # it is taken aside for a moment
            return any(path.name != "dead" for path in lock.iterdir())
        return False

    until("one to have it", taken)
    names = [path.name for path in lock.iterdir()]
    assert len(names) == 1
    owner = fillers[int(names[0].removeprefix("token"))]
    assert owner.hear_past("waiting") == "claimed"
    owner.bring()
    assert owner.seal() == "sealed"
    for filler in fillers:
        assert filler is owner or filler.hear_past("waiting") == "complete"
        filler.leave()
    assert claims(far) == []
