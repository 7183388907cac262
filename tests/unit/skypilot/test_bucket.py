"""What is kept in a bucket, and in which order; the bucket is a folder here, read by fsspec."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backends.errors import BadInput
from backends.skypilot import shipping
from backends.skypilot.addresses import address
from backends.skypilot.bucket import bringing, halves
from backends.skypilot.bucket.bringing import Torn, bring, checkpoint_of
from backends.skypilot.bucket.mirror import Mirror
from backends.skypilot.bucket.objects import Objects
from backends.skypilot.queue import _row

GIVEN: dict[str, Any] = {
    "files": [],
    "attached": [],
    "caches": [],
    "checkpoint": "output/checkpoint-*",
}
STATE = {"phase": "running", "checkpoints": [{"path": "output/checkpoint-5", "complete": True}]}


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    made = Objects(f"file://{tmp_path}/bucket")
    made.write("jobs/a/about", json.dumps(GIVEN).encode())
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "machine" / "runs" / "a"
    checkpoint = folder / "output" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"5" * 10)
    (checkpoint / "last").write_bytes(b"5")
    (folder / "logs").mkdir()
    (folder / "logs" / "1.log").write_bytes(b"a line\n")
    (folder / "state.json").write_text(json.dumps(STATE))
    (folder / "lock").touch()
    return folder


class Written(Objects):
    """Remembers the order, and breaks off when it is told to."""

    def __init__(self, url: str, breaks_at: str = "") -> None:
        super().__init__(url)
        self.names: list[str] = []
        self._breaks_at = breaks_at

    def _note(self, name: str) -> None:
        if self._breaks_at and self._breaks_at in name:
            raise OSError("the machine is gone")
        self.names.append(name.removeprefix("jobs/a/"))

    def write(self, name: str, content: bytes) -> None:
        self._note(name)
        super().write(name, content)

    def put(self, name: str, path: Path) -> None:
        self._note(name)
        super().put(name, path)


class Careless(Mirror):
    """Says that a checkpoint is there before it is."""

    def _push_checkpoint(self, path: str) -> None:
        files = {
            str(file.relative_to(self.home / path)): (file.stat().st_size, bringing.digest(file))
            for file in (self.home / path).iterdir()
        }
        self._objects.write(f"jobs/a/whole/{path}.json", json.dumps(files).encode())
        super()._push_checkpoint(path)


def restored(tmp_path: Path) -> list[str]:
    """The checkpoints that another machine has of it."""
    root = tmp_path / "another"
    bring(Objects(f"file://{tmp_path}/bucket"), "a", root)
    return sorted(path.name for path in (root / "runs/a/output").glob("*"))


def test_the_list_of_a_checkpoint_is_written_after_it(
    objects: Objects, home: Path, tmp_path: Path
) -> None:
    written = Written(f"file://{tmp_path}/bucket")
    Mirror(written, "a", home, GIVEN, []).push_checkpoints(STATE)
    assert written.names[-1] == "whole/output/checkpoint-5.json"
    assert len(written.names) == 3
    assert restored(tmp_path) == ["checkpoint-5"]


def test_what_is_left_of_a_torn_one_is_taken_away(objects: Objects, home: Path) -> None:
    mirror = Mirror(objects, "a", home, GIVEN, [])
    mirror.push_checkpoints(STATE)
    objects.write("jobs/a/run/output/checkpoint-10/weights", b"half")
    objects.write("jobs/a/run/output/model", b"x")
    mirror.drop_torn()
    left = objects.sizes("jobs/a/run")
    assert set(left) == {"output/checkpoint-5/weights", "output/checkpoint-5/last", "output/model"}


@pytest.mark.parametrize("file", ["weights", "last"])
def test_a_checkpoint_whose_upload_broke_off_is_not_there(
    objects: Objects, home: Path, tmp_path: Path, file: str
) -> None:
    torn = Written(f"file://{tmp_path}/bucket", breaks_at=file)
    with pytest.raises(OSError, match="gone"):
        Mirror(torn, "a", home, GIVEN, []).push_checkpoints(STATE)
    assert not [name for name in torn.names if name.startswith("whole")]
    (home / "output/other").write_bytes(b"x")
    Mirror(objects, "a", home, GIVEN, []).push(final=False)
    assert restored(tmp_path) == []


def test_a_careless_mirror_is_found_out(objects: Objects, home: Path, tmp_path: Path) -> None:
    """Its list comes first: the machine that breaks off leaves a promise that nobody kept."""
    torn = Written(f"file://{tmp_path}/bucket", breaks_at="weights")
    with pytest.raises(OSError, match="gone"):
        Careless(torn, "a", home, GIVEN, []).push_checkpoints(STATE)
    assert torn.names[0].startswith("whole/")
    assert objects.size("jobs/a/whole/output/checkpoint-5.json")
    assert restored(tmp_path) == [], "what the list says is held against what is there"


def test_half_of_a_file_that_is_as_long_as_it_should_be_is_not_taken(
    objects: Objects, home: Path, tmp_path: Path
) -> None:
    Mirror(objects, "a", home, GIVEN, []).push_checkpoints(STATE)
    objects.write("jobs/a/run/output/checkpoint-5/weights", b"5" * 5 + b"\0" * 5)
    assert restored(tmp_path) == []


def test_a_checkpoint_that_the_trainer_removed_is_removed(objects: Objects, home: Path) -> None:
    mirror = Mirror(objects, "a", home, GIVEN, [])
    mirror.push_checkpoints(STATE)
    shutil.copytree(home / "output/checkpoint-5", home / "output/checkpoint-9")
    shutil.rmtree(home / "output/checkpoint-5")
    rows = [{"path": "output/checkpoint-9", "complete": True}]
    mirror.push_checkpoints({"checkpoints": rows})
    assert list(objects.sizes("jobs/a/whole")) == ["output/checkpoint-9.json"]
    assert not objects.sizes("jobs/a/run/output/checkpoint-5")


def test_a_verdict_comes_last_and_with_the_final_push_only(
    objects: Objects, home: Path, tmp_path: Path
) -> None:
    written = Written(f"file://{tmp_path}/bucket")
    mirror = Mirror(written, "a", home, GIVEN, [])
    (home / "state.json").write_text(json.dumps({"phase": "succeeded"}))
    (home / "logs/1.log").write_bytes(b"a line\nthe last\n")
    (home / "manifest.json").write_text("{}")
    mirror.push(final=False)
    mirror.push(final=True, tell=False)
    assert written.names == ["run/logs/1.log"]
    mirror.push(final=True)
    assert written.names[1:] == ["run/manifest.json", "run/state.json"]


def test_a_state_never_speaks_of_lines_that_are_not_there(
    objects: Objects, home: Path, tmp_path: Path
) -> None:
    written = Written(f"file://{tmp_path}/bucket")
    Mirror(written, "a", home, GIVEN, []).push(final=False)
    # The mirror has seen both before: only what changes since is copied.
    assert written.names == []
    fresh = Mirror(written, "a", home, GIVEN, [])
    (home / "logs/1.log").write_bytes(b"a line\nanother\n")
    (home / "state.json").write_text(json.dumps({**STATE, "lines": 2}))
    fresh.push(final=False)
    assert written.names == ["run/logs/1.log", "run/state.json"]


def test_what_the_job_removed_is_not_kept(objects: Objects, home: Path) -> None:
    mirror = Mirror(objects, "a", home, GIVEN, [])
    (home / "output/scratch").write_bytes(b"x")
    mirror.push(final=False)
    assert objects.size("jobs/a/run/output/scratch") == 1
    (home / "output/scratch").unlink()
    mirror.push(final=True)
    assert objects.size("jobs/a/run/output/scratch") is None


def test_what_a_job_was_given_is_held_to_its_digest(objects: Objects, tmp_path: Path) -> None:
    sha256 = "00" * 32
    given = {**GIVEN, "files": [["bundle/data", 4, sha256, 0o644]]}
    objects.write("jobs/a/about", json.dumps(given).encode())
    with pytest.raises(Torn, match="no longer in the bucket"):
        bring(objects, "a", tmp_path / "another")
    objects.write(f"files/{sha256}", b"else")
    with pytest.raises(Torn, match="not what it was"):
        bring(objects, "a", tmp_path / "another")
    assert not (tmp_path / "another/runs/a/bundle/data").exists()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("output/checkpoint-5/weights", "output/checkpoint-5"),
        ("output/checkpoint-5", None),
        ("output/model", None),
        ("inputs/first/output/checkpoint-5/weights", None),
    ],
)
def test_the_checkpoint_that_a_file_is_part_of(name: str, found: str | None) -> None:
    assert checkpoint_of(name, "output/checkpoint-*") == found
    assert checkpoint_of(name, None) is None


def test_neither_half_of_the_secrets_says_anything() -> None:
    secrets = {"HF_TOKEN": "canary-é", "OTHER": "x"}
    task, there = halves.split(secrets)
    assert halves.join(task, there) == secrets
    assert b"canary" not in there
    assert "HF_TOKEN" not in task
    assert len(halves.split({"A": "b"})[1]) == len(there), "nor how long they are"
    again, _ = halves.split(secrets)
    assert again != task
    with pytest.raises(ValueError, match="not of one whole"):
        halves.join(task, there + b"x")
    with pytest.raises(ValueError, match="50176"):
        halves.split({"A": "b" * halves.MOST_BYTES})


@pytest.mark.parametrize(
    "url", ["s3://b", "s3://b/p/q", "gs://b/p", "az://box@account.host/p", "abfss://box@account/p"]
)
def test_an_address_of_a_bucket(url: str) -> None:
    assert address(f"{url}/").url == url
    assert (shipping.PACKAGE / address(url).pins).exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bucket", "no bucket's address"),
        ("s3://", "no bucket's address"),
        ("s3:///p", "no bucket's address"),
        ("s3://b/p q", "no bucket's address"),
        ("file:///tmp", "no bucket's address"),
        ("ftp://host/p", "no kind of bucket"),
        ("s3://key:word@b/p", "a password in it"),
    ],
)
def test_what_is_no_address_of_a_bucket(url: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        address(url)
    assert "word" not in str(caught.value) or "password" in said


def test_another_computer_reads_where_a_job_lies_from_its_script() -> None:
    text = shipping.script(address("s3://b/p"), "a")
    assert shipping.said(f"run: |\n  {text}") == "s3://b/p"
    assert shipping.said("run: exec python3 begin.py") == ""
    row = _row({"job_id": 1, "job_name": "ftlaunch-a", "user_yaml": f"run: |\n  {text}"})
    assert row.store == "s3://b/p"
    assert max(map(len, text.splitlines())) < 200


def test_the_same_software_is_sent_as_the_same_bytes() -> None:
    where = address("s3://b/p")
    assert shipping.payload(where) == shipping.payload(where)
