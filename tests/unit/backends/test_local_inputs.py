"""What the local backend lays out for a job, and what it refuses to."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from local_place import Place

from backends.errors import Refused
from backends.job import Attached, Cache, Files, LocalTree
from backends.lease import Keep
from backends.local.shelf import Shelf


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def nothing_is_left(place: Place) -> bool:
    runs = place.state / "runs"
    return not runs.exists() or list(runs.iterdir()) == []


def test_files_are_private_and_programs_stay_programs(place: Place) -> None:
    program = place.file("run me", b"#!/bin/sh\n")
    program.here.chmod(0o755)
    home = place.home(place.run(place.with_files(place.file("data", b"x"), program)))
    assert mode(home) == 0o700
    assert mode(home / "bundle/data") == 0o600
    assert mode(home / "bundle/run me") == 0o700
    assert mode(home / "plan.json") == 0o600


def test_a_link_travels_as_the_file_it_points_to(place: Place) -> None:
    file = place.file("real", b"content")
    link = place.folder / "link"
    link.symlink_to(file.here)
    home = place.home(place.run(place.with_files(replace(file, here=link))))
    assert (home / "bundle/real").read_bytes() == b"content"
    assert not (home / "bundle/real").is_symlink()


@pytest.mark.parametrize("at", ["/etc/x", "../x", "bundle/../../x", ".", "state.json", "logs/x"])
def test_an_input_cannot_be_laid_over_what_is_not_its_own(place: Place, at: str) -> None:
    with pytest.raises(Refused, match="no place"):
        place.launch(place.with_files(place.file("data", b"x", at=at)))
    assert nothing_is_left(place)


def test_two_inputs_cannot_have_one_place(place: Place) -> None:
    first, second = place.file("a", b"1", at="bundle/x"), place.file("b", b"2", at="bundle/x")
    with pytest.raises(Refused, match="same place"):
        place.launch(place.with_files(first, second))
    assert nothing_is_left(place)


def test_a_pipe_is_refused_and_not_waited_for(place: Place) -> None:
    file = place.file("pipe", b"")
    file.here.unlink()
    os.mkfifo(file.here)
    with pytest.raises(Refused, match="not a regular file"):
        place.launch(place.with_files(file))


def test_a_changed_file_is_named(place: Place) -> None:
    file = place.file("odd 'name", b"before")
    file.here.write_bytes(b"after!")
    with pytest.raises(Refused) as caught:
        place.launch(place.with_files(file))
    assert "odd 'name" in caught.value.message
    assert caught.value.exit_code == 3
    assert nothing_is_left(place)


def test_a_disk_without_room_is_refused_before_anything_is_copied(place: Place) -> None:
    job = place.job()
    huge = replace(job, plan=replace(job.plan, disk_reserve_bytes=1 << 60))
    with pytest.raises(Refused, match="free"):
        place.launch(huge)
    assert nothing_is_left(place)


def test_files_of_an_earlier_job_that_are_gone_are_named(place: Place) -> None:
    gone = Attached(Files("local", "earlier.00"), PurePosixPath("inputs/earlier"))
    with pytest.raises(Refused, match=r"earlier\.00"):
        place.launch(place.job(inputs=(gone,)))
    assert nothing_is_left(place)


def test_an_error_in_on_lease_leaves_nothing(place: Place) -> None:
    from backends.offer import FREE, Offer
    from backends.protocol import silent

    class Full(Exception):
        pass

    def told(_: object) -> None:
        raise Full

    with pytest.raises(Full):
        place.backend.launch(
            place.job(), Offer("local", None, 0, FREE), on_lease=told, progress=silent
        )
    assert nothing_is_left(place)


# ── caches ────────────────────────────────────────────────────────────────────────────────────


def cache_of(place: Place, content: bytes, key: str = "abc") -> Cache:
    file = place.file("model/weights", content, at="sub folder/weights")
    return Cache(key, LocalTree((file,)), PurePosixPath("bundle/model"))


def seen_by(place: Place, cache: Cache, name: str) -> bytes:
    home = place.home(place.run(place.job(name=name, caches=(cache,))))
    return (home / "bundle/model/sub folder/weights").read_bytes()


def test_a_cache_takes_no_second_room_on_the_same_disk(place: Place) -> None:
    cache = cache_of(place, b"w" * 5000)
    assert seen_by(place, cache, "one") == b"w" * 5000
    kept = place.state / "caches/abc/tree/sub folder/weights"
    shared = kept.stat().st_ino == cache.tree.files[0].here.stat().st_ino
    assert shared or _blocks_are_shared(place.folder)


def _blocks_are_shared(folder: Path) -> bool:
    """Whether this disk clones files; then a cache is a clone and not a link."""
    from backends.local.copying import clone

    (folder / "a").write_bytes(b"x" * 5000)
    with (folder / "a").open("rb") as source, (folder / "b").open("wb") as target:
        return clone(source, target)


def test_a_cache_is_not_made_twice(place: Place) -> None:
    cache = cache_of(place, b"w" * 5000)
    seen_by(place, cache, "one")
    made = (place.state / "caches/abc").stat().st_ino
    cache.tree.files[0].here.unlink()
    assert seen_by(place, cache, "two") == b"w" * 5000
    assert (place.state / "caches/abc").stat().st_ino == made


def test_a_cache_whose_original_was_edited_in_place_is_not_believed(place: Place) -> None:
    cache = cache_of(place, b"w" * 5000)
    seen_by(place, cache, "one")
    kept = place.state / "caches/abc/tree/sub folder/weights"
    with kept.open("r+b") as file:
        file.write(b"EDITED")
    os.utime(kept, ns=(1, 1))
    again = cache_of(place, b"w" * 5000)
    assert seen_by(place, again, "two") == b"w" * 5000


def test_a_cache_with_other_content_than_planned_is_refused(place: Place) -> None:
    cache = cache_of(place, b"w" * 5000)
    cache.tree.files[0].here.write_bytes(b"v" * 5000)
    with pytest.raises(Refused, match="has changed"):
        place.launch(place.job(caches=(cache,)))
    assert list((place.state / "caches").iterdir()) == []
    assert nothing_is_left(place)


def test_a_key_that_is_no_file_name_is_a_key(place: Place) -> None:
    assert seen_by(place, cache_of(place, b"one", key="../../x / y"), "one") == b"one"
    assert not (place.state.parent / "x ").exists()


def test_two_jobs_make_one_cache_at_the_same_time(place: Place) -> None:
    cache = cache_of(place, b"w" * 3_000_000)
    jobs = [place.job(name=name, caches=(cache,)) for name in ("one", "two")]
    failures: list[BaseException] = []

    def go(run: Callable[[], object]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=go, args=(lambda j=j: place.run(j),)) for j in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for job in jobs:
        found = place.home(job) / "bundle/model/sub folder/weights"
        assert found.read_bytes() == b"w" * 3_000_000
    assert [entry.name for entry in (place.state / "caches").iterdir()] == ["abc"]


def test_removing_a_job_does_not_reach_through_its_links(place: Place) -> None:
    cache = cache_of(place, b"weights")
    earlier = place.run(place.job("open('output/x', 'w').write('kept')", name="earlier"))
    given = Attached(earlier.files, PurePosixPath("inputs/earlier"))
    later = place.run(place.job(name="later", inputs=(given,), caches=(cache,)))
    place.backend.release(later, keep=Keep.NOTHING)
    assert (place.home(earlier) / "output/x").read_text() == "kept"
    assert Shelf(place.state).find(earlier.id) is not None
    assert (place.state / "caches/abc/tree/sub folder/weights").read_bytes() == b"weights"
