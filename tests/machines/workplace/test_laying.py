"""Run directories at the far end: folders, room, links, and what an earlier try left."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

from far_rig import Far, mode

FOLDERS = ["bundle", "inputs", "output"]


def prepare(far: Far, *files: str, **more: Any) -> dict[str, Any]:
    request = {
        "files": [[name, 10] for name in files],
        "links": [],
        "folders": FOLDERS,
        "begun": str(far.root / "runs" / ".begun"),
        "attached": [],
        "missing": [],
        "reserve": 1000,
        **more,
    }
    return far.ask("laying", "prepare", **request)


def finish(far: Far, *links: list[str], by: str = "this", **write: bytes) -> dict[str, Any]:
    content = {name: base64.b64encode(value).decode() for name, value in write.items()}
    return far.ask("laying", "finish", links=list(links), write=content, by=by)


def tree(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*")}


def test_the_folders_are_there_and_private(far: Far) -> None:
    far.root.mkdir(parents=True, mode=0o755)
    assert prepare(far, "bundle/x") == {"started": False, "gone": [], "short": None}
    assert [mode(far.home() / name) for name in (".", *FOLDERS)] == [0o700] * 4
    assert mode(far.root / "runs") == 0o700
    assert prepare(far, "bundle/x")["short"] is None


def test_small_files_and_links_are_put_in_and_may_be_again(far: Far) -> None:
    prepare(far)
    link = ["inputs/train", str(far.home("earlier"))]
    for _ in range(2):
        assert finish(far, link, plan=b"\x00\xff") == {}
    assert (far.home() / "plan").read_bytes() == b"\x00\xff"
    assert mode(far.home() / "plan") == 0o600
    assert (far.home() / "inputs/train").readlink() == far.home("earlier")
    assert finish(far, ["inputs/train", "/elsewhere"]) == {}
    assert str((far.home() / "inputs/train").readlink()) == "/elsewhere"


def test_a_link_does_not_replace_a_file(far: Far) -> None:
    prepare(far)
    (far.home() / "inputs/x").write_bytes(b"")
    assert finish(far, ["inputs/x", "/elsewhere"]) == {"taken": "inputs/x"}
    assert (far.home() / "inputs/x").is_file()


def test_what_an_earlier_try_left_is_taken_out_and_what_it_sent_stays(far: Far) -> None:
    prepare(far, "bundle/data/a", "bundle/b")
    home = far.home()
    odd = os.fsdecode(b"bundle/n\xffa\nme")
    for name in ("bundle/data/a", "bundle/b", "bundle/old/x", "bundle/c/d", odd, "workers/w"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"x")
    other = far.home("earlier")
    other.mkdir()
    (other / "precious").write_bytes(b"x")
    (home / "inputs/train").symlink_to(other)
    (home / "inputs/gone").symlink_to(other)
    prepare(far, "bundle/data/a", "bundle/b/now a folder", "bundle/c", odd, links=["inputs/train"])
    assert tree(home) == {*FOLDERS, "bundle/data", "bundle/data/a", odd, "inputs/train"}
    assert (other / "precious").exists()


def test_a_job_that_was_started_is_left_as_it_is(far: Far) -> None:
    prepare(far, "bundle/a")
    (far.home() / "state.json").write_bytes(b"{}")
    (far.home() / "bundle/a").write_bytes(b"x")
    assert prepare(far, "bundle/b") == {"started": True}
    assert (far.home() / "bundle/a").exists()


def test_files_of_an_earlier_job_must_be_there(far: Far) -> None:
    earlier = str(far.home("earlier"))
    assert prepare(far, attached=[earlier])["gone"] == [earlier]
    assert not far.root.exists()
    far.home("earlier").mkdir(parents=True)
    assert prepare(far, attached=[earlier])["gone"] == []


def test_room_is_looked_for_before_anything_is_made(far: Far) -> None:
    far.root.parent.mkdir(parents=True)
    short = prepare(far, "bundle/x", reserve=1 << 60)["short"]
    assert short["place"] == str(far.root.parent)
    assert short["needed"] == (1 << 60) + 10
    assert 0 < short["free"] < 1 << 60
    assert not far.root.exists()
    files = [["bundle/x", 1 << 60]]
    assert prepare(far, files=files, reserve=0)["short"]["needed"] == 1 << 60
    missing = [[str(far.root / "caches/k"), 1 << 61]]
    assert prepare(far, missing=missing, reserve=0)["short"]["needed"] == 1 << 61


def test_what_is_there_already_needs_no_room_again(far: Far) -> None:
    prepare(far, "bundle/x")
    (far.home() / "bundle/x").write_bytes(b"x" * 60)
    begun = far.root / "runs" / ".begun"
    begun.mkdir()
    (begun / "y").write_bytes(b"x" * 40)
    with (begun / "hole").open("wb") as file:
        file.truncate(1 << 40)
    cache = far.root / "caches/k"
    cache.mkdir(parents=True)
    (cache / "part").write_bytes(b"x" * 1000)
    request = {"files": [["bundle/x", (1 << 60) + 100]], "reserve": 0}
    short = prepare(far, **request, missing=[[str(cache), (1 << 60) + 1000]])["short"]
    assert short["needed"] == 1 << 61


def claim(far: Far) -> Path:
    return far.root / "runs" / ".job.by"


def test_while_one_computer_lays_a_job_out_another_one_waits(far: Far) -> None:
    prepare(far, by="one")
    assert prepare(far, by="other") == {"started": False, "busy": True}
    assert finish(far, by="other") == {"busy": True}
    assert prepare(far, by="one")["short"] is None
    assert finish(far, by="one") == {}


def test_who_has_not_been_there_for_a_minute_no_longer_lays_it_out(far: Far) -> None:
    prepare(far, by="one")
    before = time.time() - 70
    os.utime(claim(far), (before, before))
    far.ask("place", "touch", by="other")
    assert abs(claim(far).stat().st_mtime - before) < 1
    far.ask("place", "touch", by="one")
    assert prepare(far, by="other")["busy"]
    os.utime(claim(far), (before, before))
    assert prepare(far, by="other")["short"] is None
    assert finish(far, by="one") == {"busy": True}


def test_what_another_computer_lays_out_is_not_undone(far: Far) -> None:
    prepare(far, by="one")
    far.ask("place", "undo", begun=str(far.root / "begun"), by="other")
    assert far.home().is_dir()
    far.ask("place", "undo", begun=str(far.root / "begun"), by="one")
    assert not far.home().exists()
    assert not claim(far).exists()
