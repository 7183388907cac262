"""Environments made from tiny locks with the real uv."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from shelf import NOTED, Shelf, spec

from backends.errors import BadInput, Refused
from launcher import environment
from launcher.environment.make import STAMP


def test_an_environment_is_made_with_what_the_lock_says(shelf: Shelf, python311: str) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", "1.0"), shelf.wheel("other", "2.0"))
    shelf.wheel("tinydep", "1.1")
    wanted = spec(lock, "tinydep", python=python311)

    prefix = environment.ensure(wanted)

    assert environment.probe(prefix, wanted) == {"tinydep": "1.0", "other": "2.0"}
    (installed,) = environment.inspect()
    assert (installed.name, installed.state) == (wanted.name, "ready")
    assert dict(installed.versions) == {"tinydep": "1.0", "other": "2.0"}
    assert installed.size_bytes > 0


def test_it_is_made_once(shelf: Shelf, python311: str) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", code=NOTED))
    wanted = spec(lock, "tinydep", python=python311)
    told: list[str] = []

    def tell(what: str, *, done: int | None = None, total: int | None = None) -> None:
        told.append(what)

    environment.ensure(wanted)
    environment.ensure(wanted, progress=tell)

    assert shelf.imports() == 1
    assert told == []


def test_comments_of_a_lock_do_not_name_the_environment(shelf: Shelf, python311: str) -> None:
    line = shelf.wheel("tinydep")
    before = spec(shelf.lock(line), "tinydep", python=python311).name
    after = spec(shelf.lock("# more", line), "tinydep", python=python311).name
    other = spec(shelf.lock(shelf.wheel("tinydep", "1.1")), "tinydep", python=python311).name
    assert before == after != other


def test_a_build_with_a_local_label_does_not_stand_in(shelf: Shelf, python311: str) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", "1.0"))
    shelf.wheel("tinydep", "1.0+cpu")
    prefix = environment.ensure(spec(lock, "tinydep", python=python311))
    assert (prefix / "lib/python3.11/site-packages/tinydep-1.0.dist-info").is_dir()


def test_a_pin_without_a_hash_comes_from_the_wheel_folder(shelf: Shelf, python311: str) -> None:
    shelf.wheel("torchlike", "2.0+cpu")
    lock = shelf.lock(shelf.wheel("tinydep"), "torchlike==2.0+cpu")
    wanted = spec(lock, "torchlike", "tinydep", python=python311)
    prefix = environment.ensure(wanted)
    assert environment.probe(prefix, wanted)["torchlike"] == "2.0+cpu"


def test_a_pin_without_a_hash_comes_from_the_torch_index(
    shelf: Shelf, python311: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = shelf.wheel("tinydep")
    elsewhere = Shelf(tmp_path / "torch index" / "torchlike")
    elsewhere.wheel("torchlike", "2.0+cpu")
    name = "torchlike-2.0+cpu-py3-none-any.whl"
    (elsewhere.folder / "index.html").write_text(f'<a href="{name}">{name}</a>')
    monkeypatch.setenv("FTLAUNCH_TORCH_INDEX", elsewhere.folder.parent.as_uri())
    lock = shelf.lock(line, "torchlike==2.0+cpu")
    environment.ensure(spec(lock, "torchlike", "tinydep", python=python311))


def test_a_torch_index_out_of_reach_is_named(
    shelf: Shelf, python311: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = shelf.lock(shelf.wheel("tinydep"), "torchlike==2.0+cpu")
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("FTLAUNCH_TORCH_INDEX", "http://me:hunter2@127.0.0.1:1/cpu")
    with pytest.raises(Refused, match=r" http://127\.0\.0\.1:1/cpu could not be reached") as caught:
        environment.ensure(spec(lock, "tinydep", python=python311))
    assert "FTLAUNCH_TORCH_INDEX" in caught.value.hint
    (log,) = environment.cache_dir().glob("envs/*.log")
    assert "hunter2" not in log.read_text() + caught.value.message + caught.value.hint


def test_no_build_of_torch_for_this_python_is_said_clearly(shelf: Shelf, python311: str) -> None:
    wheel = shelf.folder / "torchlike-2.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl"
    lock = shelf.lock(shelf.wheel("tinydep"), "torchlike==2.0+cpu")
    shelf.wheel("torchlike", "2.0+cpu")
    (shelf.folder / "torchlike-2.0+cpu-py3-none-any.whl").rename(wheel)
    with pytest.raises(
        Refused, match=r"no build of torchlike 2\.0\+cpu for Python 3\.11"
    ) as caught:
        environment.ensure(spec(lock, "torchlike", python=python311))
    assert "FTLAUNCH_TORCH_INDEX" in caught.value.hint


def test_a_disk_without_room_is_refused_before_anything_is_made(
    shelf: Shelf, python311: str
) -> None:
    lock = shelf.lock(shelf.wheel("tinydep"))
    wanted = spec(lock, "tinydep", python=python311, room_bytes=10**18)
    with pytest.raises(Refused, match=r"needs 1000000000\.0 GB of disk.* GB free"):
        environment.ensure(wanted)
    assert environment.inspect() == []


@pytest.mark.parametrize("how", ["forbidden", "refused"])
def test_an_index_out_of_reach_is_one_sentence_and_names_the_log(
    shelf: Shelf, python311: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "refused":
        monkeypatch.delenv("UV_OFFLINE")
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    line = shelf.wheel("tinydep")
    (shelf.folder / "tinydep-1.0-py3-none-any.whl").unlink()
    wanted = spec(shelf.lock(line), "tinydep", python=python311)
    with pytest.raises(Refused, match="the package index could not be reached") as caught:
        environment.ensure(wanted)
    log = environment.prefix_of(wanted).parent / f"{wanted.name}.log"
    assert repr(str(log)) in caught.value.hint
    assert "uv pip install" in log.read_text()
    assert environment.inspect() == []


def test_a_package_that_is_not_what_the_lock_says_is_refused(shelf: Shelf, python311: str) -> None:
    line = shelf.wheel("tinydep")
    shelf.wheel("tinydep", code="raise SystemExit('not what was locked')")
    with pytest.raises(Refused, match="something else than what is locked"):
        environment.ensure(spec(shelf.lock(line), "tinydep", python=python311))


def test_an_import_that_fails_leaves_no_finished_environment(shelf: Shelf, python311: str) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", code="raise RuntimeError('no such thing')"))
    wanted = spec(lock, "tinydep", python=python311)
    with pytest.raises(Refused, match="tinydep does not import: RuntimeError: no such thing"):
        environment.ensure(wanted)
    assert environment.inspect() == []


def test_what_a_package_prints_on_import_does_not_confuse_the_probe(
    shelf: Shelf, python311: str
) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", code="print('a banner')"))
    environment.ensure(spec(lock, "tinydep", python=python311))


@pytest.mark.parametrize("harm", ["package", "metadata", "interpreter", "stamp", "site", "file"])
def test_a_broken_environment_is_made_again(shelf: Shelf, python311: str, harm: str) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", code=NOTED), shelf.wheel("other"))
    wanted = spec(lock, "tinydep", python=python311)
    prefix = environment.ensure(wanted)
    site = prefix / "lib/python3.11/site-packages"
    if harm == "package":
        shutil.rmtree(site / "other")
    elif harm == "metadata":
        shutil.rmtree(site / "tinydep-1.0.dist-info")
    elif harm == "interpreter":
        (prefix / "bin/python").unlink()
        (prefix / "bin/python").symlink_to("/nowhere/python")
    elif harm == "stamp":
        (prefix / STAMP).write_text("{")
    elif harm == "site":
        shutil.rmtree(site)
    else:
        shutil.rmtree(prefix)
        prefix.write_text("a file in its place")
    assert not environment.healthy(prefix)

    assert environment.ensure(wanted) == prefix

    assert environment.healthy(prefix)
    assert shelf.imports() == 2


def test_verify_finds_what_the_quick_look_cannot_and_has_it_made_again(
    shelf: Shelf, python311: str
) -> None:
    lock = shelf.lock(shelf.wheel("tinydep", code="answer = 42"))
    wanted = spec(lock, "tinydep", python=python311)
    prefix = environment.ensure(wanted)
    module = prefix / "lib/python3.11/site-packages/tinydep/__init__.py"
    module.unlink()
    module.write_text("import nothing_of_that_name")
    assert environment.healthy(prefix)

    with pytest.raises(Refused, match="nothing_of_that_name"):
        environment.verify(wanted)

    environment.ensure(wanted)
    assert environment.verify(wanted) == {"tinydep": "1.0"}
    assert module.read_text() == "answer = 42"


def test_another_version_than_the_locked_one_is_found(shelf: Shelf, python311: str) -> None:
    lock = shelf.lock(shelf.wheel("tinydep"))
    wanted = spec(lock, "tinydep", python=python311)
    prefix = environment.ensure(wanted)
    metadata = prefix / "lib/python3.11/site-packages/tinydep-1.0.dist-info/METADATA"
    text = metadata.read_text().replace("Version: 1.0", "Version: 1.5")
    metadata.unlink()  # it is a hard link to uv's own copy
    metadata.write_text(text)
    with pytest.raises(Refused, match=r"has tinydep 1\.5, and the lock says 1\.0"):
        environment.verify(wanted)


@pytest.mark.parametrize("name", ["a b", 'it\'s "so"', "ünï-çødé", "-leading", "$HOME;x", "a#b%20"])
def test_odd_names_of_the_cache_folder_work(
    shelf: Shelf, python311: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / name))
    prefix = environment.ensure(
        spec(shelf.lock(shelf.wheel("tinydep")), "tinydep", python=python311)
    )
    assert prefix.is_relative_to(tmp_path / name)


def test_a_line_break_in_the_cache_folder_is_refused(
    shelf: Shelf, python311: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "a\nb"))
    with pytest.raises(Refused, match="line break"):
        environment.ensure(spec(shelf.lock(shelf.wheel("tinydep")), "tinydep", python=python311))


def test_a_relative_cache_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", "here")
    assert environment.cache_dir() == tmp_path / "here"


def test_a_cache_folder_that_cannot_be_made_is_refused(
    shelf: Shelf, python311: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTLAUNCH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(Refused, match="cannot be made") as caught:
        environment.ensure(spec(shelf.lock(shelf.wheel("tinydep")), "tinydep", python=python311))
    assert "FTLAUNCH_CACHE_DIR" in caught.value.hint


def test_remove_takes_it_away_and_only_it(shelf: Shelf, python311: str) -> None:
    first = spec(shelf.lock(shelf.wheel("tinydep", "1.0")), "tinydep", python=python311)
    environment.ensure(first)
    second = spec(shelf.lock(shelf.wheel("tinydep", "1.1")), "tinydep", python=python311)
    environment.ensure(second)

    environment.remove(first.name)

    assert [item.name for item in environment.inspect()] == [second.name]
    with pytest.raises(BadInput, match="there is no environment"):
        environment.remove(first.name)
    with pytest.raises(BadInput):
        environment.remove("../envs")


def test_passwords_in_pip_s_index_reach_neither_arguments_nor_log(
    shelf: Shelf, python311: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://somebody:hunter2@localhost:9/simple")
    wanted = spec(shelf.lock(shelf.wheel("tinydep")), "tinydep", python=python311)
    prefix = environment.ensure(wanted)
    log = prefix.parent / f"{wanted.name}.log"
    assert log.read_text()
    assert "hunter2" not in log.read_text() + json.dumps(
        [path.read_text() for path in prefix.glob("*") if path.is_file()]
    )
