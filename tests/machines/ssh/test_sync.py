"""Files to and from a machine: whole, checked, and not sent twice."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from sshd import Sshd
from trees import MIB, content, digest, digests, local_file, tree, write

from backends.errors import Lost, Refused
from backends.protocol import silent
from backends.ssh import sync
from backends.ssh.errors import NoAnswer
from backends.ssh.frames import Channel, Frame
from backends.ssh.host import Host
from backends.ssh.programs import FarError
from backends.ssh.sync import Moved
from backends.testing.inputs import ODD_NAMES

NAMES = (*ODD_NAMES, "x" * 255, "ü" * 127, "...", "..a", "a\\b", os.fsdecode(b"not \xff utf-8"))
BIG = content(20 * MIB + 12345, 1)
NONE: dict[PurePosixPath, str] = {}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The root at the far end, which is this machine too; made by who needs it."""
    return tmp_path / "far side" / "runs" / "job"


@pytest.fixture
def root(there: Path) -> PurePosixPath:
    return PurePosixPath(there)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []

    def __call__(self, what: str, *, done: int | None = None, total: int | None = None) -> None:
        assert done is not None
        assert total is not None
        self.rows.append((done, total))


class TestUpload:
    def test_names_and_sizes(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        given = {name: name.encode("utf-8", "surrogateescape") for name in NAMES}
        given |= {"empty": b"", "big": BIG, "part": BIG[: 8 * MIB], "more": BIG[: 8 * MIB + 1]}
        files = [
            local_file(here, f"{n}", data, name) for n, (name, data) in enumerate(given.items())
        ]
        told = Told()
        moved = sync.upload(host, root, files, told=told)
        assert tree(there) == digests(given)
        total = sum(map(len, given.values()))
        assert moved == Moved(len(given), total)
        assert told.rows[-1] == (total, total)
        assert told.rows == sorted(told.rows)

    def test_private_and_executable(self, host: Host, here: Path, there: Path) -> None:
        script, plain = (local_file(here, name, b"x", f"deep/{name}") for name in ("run", "plain"))
        script.here.chmod(0o755)
        sync.upload(host, PurePosixPath(there), [script, plain], told=silent)
        modes = {path: path.stat().st_mode & 0o777 for path in (there, *there.rglob("*"))}
        assert modes == {
            there: 0o700,
            there / "deep": 0o700,
            there / "deep/run": 0o700,
            there / "deep/plain": 0o600,
        }
        plain.here.chmod(0o700)
        assert sync.upload(host, PurePosixPath(there), [plain], told=silent) == Moved(0, 0)
        assert (there / "deep/plain").stat().st_mode & 0o777 == 0o700

    def test_nothing_is_sent_twice(self, host: Host, here: Path, there: Path) -> None:
        root = PurePosixPath(there)
        files = [local_file(here, "big", BIG), local_file(here, "small", b"small")]
        sync.upload(host, root, files, told=silent)
        before = {path: path.stat().st_ino for path in there.iterdir()}
        assert sync.upload(host, root, files, told=silent) == Moved(0, 0)
        assert {path: path.stat().st_ino for path in there.iterdir()} == before

    def test_what_is_there_by_other_ways_is_not_sent(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        write(there, {"big": BIG, "small": b"small"})
        files = [local_file(here, "big", BIG), local_file(here, "small", b"small")]
        assert sync.upload(host, root, files, told=silent) == Moved(0, 0)

    def test_what_was_changed_there_is_sent(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        files = [local_file(here, name, b"good") for name in ("one", "two", "three", "four")]
        sync.upload(host, root, files, told=silent)
        (there / "one").write_bytes(b"evil")
        (there / "two").unlink()
        (there / "three").write_bytes(b"longer")
        (there / "four").touch()
        assert sync.upload(host, root, files, told=silent) == Moved(3, 12)
        assert set(tree(there).values()) == {digest(b"good")}

    def test_a_new_version_replaces_the_old(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        for data in (b"one", b"two", BIG, content(len(BIG), 2)):
            sync.upload(host, root, [local_file(here, "file", data)], told=silent)
            assert tree(there) == {"file": digest(data)}

    def test_nothing_to_send(self, host: Host, there: Path, root: PurePosixPath) -> None:
        assert sync.upload(host, root, [], told=silent) == Moved(0, 0)

    def test_a_file_that_has_changed(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        for name, data in {"small": b"planned", "large": BIG}.items():
            file = local_file(here, name, data)
            for other in (data[:-1] + b"X", data + b"X", data[:-1]):
                file.here.write_bytes(other)
                with pytest.raises(Refused, match=f"{name}' has changed since"):
                    sync.upload(host, root, [file], told=silent)
                assert tree(there) == {}

    @pytest.mark.parametrize("channels", [1, 6])
    def test_a_file_that_changed_is_not_mixed_with_what_came_before(
        self, host: Host, here: Path, there: Path, root: PurePosixPath, channels: int
    ) -> None:
        """The far end keeps parts of the wrong version; the right one is whole all the same."""
        file = local_file(here, "large", BIG)
        file.here.write_bytes(BIG[:1000] + b"X" + BIG[1001:])
        with pytest.raises(Refused):
            sync.upload(host, root, [file], told=silent, channels=channels)
        file.here.write_bytes(BIG)
        moved = sync.upload(host, root, [file], told=silent, channels=channels)
        assert tree(there) == {"large": digest(BIG)}
        assert moved.bytes <= len(BIG)

    @pytest.mark.parametrize("what", ["gone", "a folder", "a pipe", "a link to nothing"])
    def test_a_file_that_is_none(
        self, host: Host, here: Path, root: PurePosixPath, what: str
    ) -> None:
        file = local_file(here, "file", b"x")
        file.here.unlink()
        if what == "a folder":
            file.here.mkdir()
        elif what == "a pipe":
            os.mkfifo(file.here)
        elif what == "a link to nothing":
            file.here.symlink_to("nothing")
        with pytest.raises(Refused, match=r"file' (cannot be read|is not a regular file)"):
            sync.upload(host, root, [file], told=silent)

    @pytest.mark.parametrize("at", ["../outside", "a/../../outside", "/tmp/outside", "."])
    def test_a_place_outside(self, host: Host, here: Path, root: PurePosixPath, at: str) -> None:
        with pytest.raises(Refused, match="no place"):
            sync.upload(host, root, [local_file(here, "file", b"x", at)], told=silent)

    def test_two_for_one_place(self, host: Host, here: Path, root: PurePosixPath) -> None:
        files = [local_file(here, name, b"x", "same") for name in ("one", "two")]
        with pytest.raises(Refused, match="same place"):
            sync.upload(host, root, files, told=silent)

    def test_a_link_in_the_way_is_not_followed(
        self, host: Host, here: Path, there: Path, root: PurePosixPath, tmp_path: Path
    ) -> None:
        """An earlier job's files are a link in the run directory: they are not to be written."""
        earlier = tmp_path / "earlier"
        write(earlier, {"file": b"theirs"})
        there.mkdir(parents=True)
        (there / "inputs").symlink_to(earlier)
        (there / "file").symlink_to(earlier / "file")
        with pytest.raises(FarError, match="inputs' is not a folder"):
            sync.upload(host, root, [local_file(here, "a", b"x", "inputs/file")], told=silent)
        sync.upload(host, root, [local_file(here, "a", b"ours", "file")], told=silent)
        assert tree(earlier) == {"file": digest(b"theirs")}
        assert (there / "file").read_bytes() == b"ours"
        assert not (there / "file").is_symlink()

    def test_a_folder_in_the_way(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        (there / "file").mkdir(parents=True)
        (there / "folder").write_bytes(b"x")
        for at in ("file", "folder/file"):
            with pytest.raises(FarError, match=at.partition("/")[0]):
                sync.upload(host, root, [local_file(here, "a", b"x", at)], told=silent)

    def test_several_at_once(self, host: Host, machine: Sshd, here: Path, there: Path) -> None:
        """The same from several sides: each returns with all there, and nothing is spoilt."""
        root = PurePosixPath(there)
        given = {f"small {n}": content(5000, n) for n in range(300)} | {"big": BIG}
        files = [local_file(here, name, data) for name, data in given.items()]
        failures: list[BaseException] = []

        def go(host: Host) -> None:
            try:
                sync.upload(host, root, files, told=silent)
                assert tree(there) == digests(given)
            except BaseException as error:  # noqa: BLE001 - shown below
                failures.append(error)

        threads = [threading.Thread(target=go, args=(host,)) for host in (host, machine.host())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert _left(root) == ["root", "stamps"]

    def test_what_is_remembered_goes_with_the_root(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        file = local_file(here, "file", b"x")
        other = root.with_name("other")
        sync.upload(host, root, [file], told=silent)
        sync.upload(host, other, [file], told=silent)
        state, others = Path(sync.state_folder(root)), Path(sync.state_folder(other))
        (there / "file").unlink()
        there.rmdir()
        os.utime(state, (0, 0))
        os.utime(others, (0, 0))
        sync.upload(host, root.with_name("third"), [file], told=silent)
        assert (state.exists(), others.exists()) == (False, True)


class TestDownload:
    def test_names_and_sizes(
        self, host: Host, there: Path, root: PurePosixPath, here: Path
    ) -> None:
        given = {name: name.encode("utf-8", "surrogateescape") for name in NAMES}
        given |= {"empty": b"", "big": BIG, "part": BIG[: 8 * MIB], "more": BIG[: 8 * MIB + 1]}
        write(there, given)
        told = Told()
        paths = [PurePosixPath(name) for name in given]
        for sha256 in (NONE, {PurePosixPath(name): digest(data) for name, data in given.items()}):
            into = here / f"new {len(sha256)}" / "into"
            moved = sync.download(host, root, paths, into, sha256=sha256, told=told)
            assert tree(into) == digests(given)
            total = sum(map(len, given.values()))
            assert moved == Moved(len(given), total)
            assert told.rows[-1] == (total, total)
            assert sync.download(host, root, paths, into, sha256=sha256, told=told) == Moved(0, 0)
            assert told.rows[-1] == (total, total)

    @pytest.mark.parametrize("promised", [False, True])
    def test_what_is_here_with_other_content_is_replaced(
        self, host: Host, there: Path, root: PurePosixPath, here: Path, promised: bool
    ) -> None:
        for name, data in {"small": b"small", "big": BIG}.items():
            write(there, {name: data})
            path = PurePosixPath(name)
            sha256 = {path: digest(data)} if promised else NONE
            for wrong in (data[:-1] + b"X", data[:-1], data + b"X", b""):
                (here / name).write_bytes(wrong)
                sync.download(host, root, [path], here, sha256=sha256, told=silent)
                assert digest((here / name).read_bytes()) == digest(data)
        assert tree(here) == digests({"small": b"small", "big": BIG})

    @pytest.mark.parametrize(
        ("begun", "sent"),
        [
            (BIG[: 8 * MIB], len(BIG) - 8 * MIB),
            (BIG, 0),
            (BIG + b"too much" * MIB, 0),
            (BIG[: 16 * MIB] + b"wrong", len(BIG) - 16 * MIB),
            (bytes(8 * MIB) + BIG[8 * MIB :], 8 * MIB),
            (b"wrong", len(BIG)),
        ],
        ids=["a part", "all", "more", "a wrong end", "a hole", "all wrong"],
    )
    def test_what_has_begun_is_continued(
        self, host: Host, there: Path, here: Path, begun: bytes, sent: int
    ) -> None:
        root = PurePosixPath(there)
        write(there, {"big": BIG})
        path = PurePosixPath("big")
        for number, sha256 in enumerate((NONE, {path: digest(BIG)})):
            into = here / str(number)
            write(into, {f".{digest(b'big')[:16]}.part": begun})
            told = Told()
            moved = sync.download(host, root, [path], into, sha256=sha256, told=told)
            assert moved.bytes == sent
            assert told.rows[-1] == (len(BIG), len(BIG))
            assert tree(into) == {"big": digest(BIG)}

    @pytest.mark.parametrize("path", ["missing", "folder/missing", "folder", "dangling", "pipe"])
    def test_what_is_not_there(
        self, host: Host, there: Path, root: PurePosixPath, here: Path, path: str
    ) -> None:
        write(there, {"folder/file": b"x"})
        (there / "dangling").symlink_to("nothing")
        os.mkfifo(there / "pipe")
        paths = [PurePosixPath("folder/file"), PurePosixPath(path)]
        with pytest.raises(Lost, match=path):
            sync.download(host, root, paths, here / "into", sha256=NONE, told=silent)
        assert tree(here) == {}

    @pytest.mark.parametrize("path", ["/etc/passwd", "../../../etc/passwd", "a/../../b"])
    def test_a_path_that_leaves_the_root(
        self, host: Host, there: Path, root: PurePosixPath, here: Path, path: str
    ) -> None:
        there.mkdir(parents=True)
        (there.parent / "b").write_bytes(b"x")
        with pytest.raises(Lost, match="not inside"):
            sync.download(host, root, [PurePosixPath(path)], here, sha256=NONE, told=silent)
        with pytest.raises(Lost, match="not inside"):
            list(sync.read(host, root, PurePosixPath(path), offset=0, follow=False))

    def test_links_there_are_followed(
        self, host: Host, there: Path, root: PurePosixPath, here: Path, tmp_path: Path
    ) -> None:
        write(tmp_path / "earlier", {"deep/file": b"x"})
        there.mkdir(parents=True)
        (there / "inputs").symlink_to(tmp_path / "earlier")
        (there / "latest").symlink_to("inputs/deep/file")
        paths = [PurePosixPath("inputs/deep/file"), PurePosixPath("latest")]
        sync.download(host, root, paths, here, sha256=NONE, told=silent)
        assert tree(here) == digests({"inputs/deep/file": b"x", "latest": b"x"})

    @pytest.mark.parametrize("data", [b"small", BIG], ids=["small", "big"])
    def test_what_is_no_longer_what_it_must_be(
        self, host: Host, there: Path, root: PurePosixPath, here: Path, data: bytes
    ) -> None:
        write(there, {"file": data})
        path = PurePosixPath("file")
        sha256 = {path: digest(b"what it was")}
        with pytest.raises(Lost, match="'file' is no longer"):
            sync.download(host, root, [path], here, sha256=sha256, told=silent)
        assert tree(here) == {}

    def test_what_is_damaged_on_its_way_is_fetched_again(
        self,
        host: Host,
        there: Path,
        root: PurePosixPath,
        here: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Where the digest of the whole is known, no part has one of its own."""
        write(there, {"big": BIG})
        path = PurePosixPath("big")
        receive = Channel.receive
        damaged: list[bool] = []

        def damage(channel: Channel) -> Frame:
            answer = receive(channel)
            if len(answer.content) == 8 * MIB and not damaged:
                damaged.append(True)
                answer.content[1000] ^= 1
            return answer

        monkeypatch.setattr(Channel, "receive", damage)
        sha256 = {path: digest(BIG)}
        moved = sync.download(host, root, [path], here, sha256=sha256, told=silent)
        assert moved.bytes == len(BIG) + 8 * MIB
        assert tree(here) == {"big": digest(BIG)}

    def test_what_cannot_be_written_here(
        self, host: Host, there: Path, root: PurePosixPath, here: Path
    ) -> None:
        write(there, {"file": b"x"})
        paths = [PurePosixPath("file")]
        (here / "file").mkdir()
        with pytest.raises(Refused, match="is a folder"):
            sync.download(host, root, paths, here, sha256=NONE, told=silent)
        (here / "in the way").write_bytes(b"")
        with pytest.raises(Refused, match="cannot be written"):
            sync.download(host, root, paths, here / "in the way", sha256=NONE, told=silent)

    def test_several_at_once(
        self, host: Host, machine: Sshd, there: Path, root: PurePosixPath, here: Path
    ) -> None:
        """The same in both directions of the list: neither spoils it, nor waits for ever."""
        given = {f"small {n}": content(5000, n) for n in range(300)}
        given |= {f"big {n}": content(9 * MIB, n) for n in range(3)}
        write(there, given)
        paths = [PurePosixPath(name) for name in given]
        failures: list[BaseException] = []

        def go(host: Host, paths: list[PurePosixPath]) -> None:
            try:
                sync.download(host, root, paths, here, sha256=NONE, told=silent)
                # Not the whole tree: the other one's unfinished copies go while it is read.
                assert all((here / path).is_file() for path in paths)
            except BaseException as error:  # noqa: BLE001 - shown below
                failures.append(error)

        ways = ((host, paths), (machine.host(), paths[::-1]))
        threads = [threading.Thread(target=go, args=way) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert tree(here) == digests(given)

    def test_a_file_that_grows_meanwhile(
        self, host: Host, there: Path, root: PurePosixPath, here: Path
    ) -> None:
        """What comes is a beginning of it, as long as it was or longer."""
        there.mkdir(parents=True)
        over = threading.Event()
        whole = content(64 * MIB, 3)

        def grow() -> None:
            with (there / "log").open("ab", buffering=0) as file:
                for at in range(0, len(whole), 100_000):
                    file.write(whole[at : at + 100_000])
                    if over.wait(0.002):
                        return

        growing = threading.Thread(target=grow)
        growing.start()
        try:
            path = PurePosixPath("log")
            until((there / "log").exists)
            least = 0
            while least < 20 * MIB:
                before = (there / "log").stat().st_size
                sync.download(host, root, [path], here, sha256=NONE, told=silent)
                got = (here / "log").read_bytes()
                assert whole.startswith(got)
                assert len(got) >= before >= least
                least = len(got)
        finally:
            over.set()
            growing.join()


class TestListing:
    def test_files_and_sizes(
        self, host: Host, there: Path, root: PurePosixPath, here: Path
    ) -> None:
        given = {f"folder {len(name)}/{name}": b"x" * n for n, name in enumerate(NAMES)}
        write(there, given)
        (there / "link").symlink_to(here)
        (there / "dangling").symlink_to("nothing")
        os.mkfifo(there / "pipe")
        found = sync.listing(host, root)
        assert found == {PurePosixPath(name): len(data) for name, data in given.items()}

    def test_many(self, host: Host, there: Path, root: PurePosixPath) -> None:
        write(there, {f"{n}": b"" for n in range(11_000)})
        assert len(sync.listing(host, root)) == 11_000

    def test_what_is_ours_does_not_show(
        self, host: Host, here: Path, there: Path, root: PurePosixPath
    ) -> None:
        sync.upload(host, root, [local_file(here, "file", BIG)], told=silent)
        assert sync.listing(host, root) == {PurePosixPath("file"): len(BIG)}

    def test_no_such_folder(self, host: Host, root: PurePosixPath) -> None:
        with pytest.raises(Lost):
            sync.listing(host, root)


class TestRead:
    @pytest.mark.parametrize("offset", [0, 1, 3 * MIB, len(BIG) - 1, len(BIG), len(BIG) + 9])
    def test_from_an_offset(
        self, host: Host, there: Path, root: PurePosixPath, offset: int
    ) -> None:
        write(there, {"file": BIG})
        chunks = list(sync.read(host, root, PurePosixPath("file"), offset=offset, follow=False))
        assert digest(b"".join(chunks)) == digest(BIG[offset:])
        assert b"" not in chunks

    @pytest.mark.parametrize("follow", [False, True])
    @pytest.mark.parametrize("path", ["missing", "folder", "folder/missing", "dangling"])
    def test_no_such_file(
        self, host: Host, there: Path, root: PurePosixPath, path: str, follow: bool
    ) -> None:
        (there / "folder").mkdir(parents=True)
        (there / "dangling").symlink_to("nothing")
        with pytest.raises(Lost):
            list(sync.read(host, root, PurePosixPath(path), offset=0, follow=follow))

    def test_follow(self, host: Host, there: Path, root: PurePosixPath) -> None:
        write(there, {"log": b"begun "})
        following = sync.read(host, root, PurePosixPath("log"), offset=2, follow=True)
        with closing(_generator(following)) as chunks:
            assert _next(chunks) == b"gun "
            for text in (b"one", b"two"):
                assert next(chunks) == b""
                with (there / "log").open("ab") as file:
                    file.write(text)
                assert _next(chunks) == text

    def test_follow_through_a_lost_connection(
        self, host: Host, machine: Sshd, there: Path, root: PurePosixPath
    ) -> None:
        write(there, {"log": b"one "})
        following = sync.read(host, root, PurePosixPath("log"), offset=0, follow=True)
        with closing(_generator(following)) as chunks:
            assert _next(chunks) == b"one "
            machine.stop()
            with (there / "log").open("ab") as file:
                file.write(b"two ")
            for _ in range(3):
                assert next(chunks) == b""
            machine.start()
            assert _next(chunks) == b"two "

    def test_follow_gives_up(
        self,
        host: Host,
        machine: Sshd,
        there: Path,
        root: PurePosixPath,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("backends.ssh.reading.RECONNECT", timedelta(seconds=0.5))
        write(there, {"log": b"one "})
        following = sync.read(host, root, PurePosixPath("log"), offset=0, follow=True)
        with closing(_generator(following)) as chunks:
            assert _next(chunks) == b"one "
            machine.stop()
            with pytest.raises(NoAnswer):
                _next(chunks)


def _left(root: PurePosixPath) -> list[str]:
    return sorted(path.name for path in Path(sync.state_folder(root)).iterdir())


def _generator(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    yield from chunks


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunk for chunk in chunks if chunk)
