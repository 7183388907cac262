"""Cases: what a job is given reaches it, and what is secret goes nowhere else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from backends.job import Attached, Cache, LocalTree, Secrets
from backends.lease import Keep
from backends.plan import RunPath
from backends.testing import programs
from backends.testing.bench import Bench
from backends.testing.rig import Trait

ODD_NAMES = (
    "plain.txt",
    "with space",
    "quo'te\"s",
    "new\nline",
    "ünï→😀",
    "-leading-dash",
    "$HOME;`x`&|<>*?[a]\\",
    ".hidden",
    "deep/er/still/deeper",
    "a" * 200,
)
"""Names that a shell, a glob, a listing or an encoding would spoil."""


class Inputs:
    """What `launch` lays out for a job."""

    def test_inputs_are_exact(self, bench: Bench) -> None:
        """launch: the inputs are laid out with the hashes they were given, whatever their names."""
        content = {name: name.encode() * 3 for name in ODD_NAMES}
        content |= {"empty": b"", "binary": bytes(range(256)) * 4099}
        files = tuple(bench.file(name, data) for name, data in content.items())
        lease = bench.run(programs.SAYS_WHAT_IT_SEES, inputs=(LocalTree(files),))
        seen = bench.json(lease.files, "output/seen.json")["files"]
        expected = {f"bundle/{name}": _digest(data) for name, data in content.items()}
        assert {path: seen.get(path) for path in expected} == expected

    def test_commands_are_exact(self, bench: Bench) -> None:
        """launch: a command's arguments arrive as they were given: no shell reads them."""
        arguments = ["", " ", *ODD_NAMES, "--flag=a b", "$(touch output/broken)"]
        path = RunPath("bundle/x y", prefix="--at=")
        lease = bench.run(programs.SAYS_WHAT_IT_SEES, *arguments, path)
        *got, placed = bench.json(lease.files, "output/seen.json")["argv"]
        assert got == arguments
        assert placed.startswith("--at=/")
        assert placed.endswith("/bundle/x y")

    def test_environment(self, bench: Bench) -> None:
        """launch: the job's variables and its secrets are in its environment."""
        odd = "line one\nline 'two' $HOME ü"
        lease = bench.run(
            programs.SAYS_WHAT_IT_SEES,
            env={"SUITE_PLAIN": odd, "SUITE_EMPTY": ""},
            secrets=Secrets({"SUITE_SECRET": odd + "!"}),
            step={"env": {"SUITE_STEP": "step", "SUITE_PATH": RunPath("output")}},
        )
        seen = bench.json(lease.files, "output/seen.json")["environment"]
        assert seen["SUITE_PLAIN"] == _digest(odd.encode())
        assert seen["SUITE_EMPTY"] == _digest(b"")
        assert seen["SUITE_SECRET"] == _digest((odd + "!").encode())
        assert seen["SUITE_STEP"] == _digest(b"step")
        assert "SUITE_PATH" in seen

    def test_secret_is_nowhere_else(self, bench: Bench) -> None:
        """launch: secrets reach the job as environment only: in no file, argument or text."""
        bench.need(Trait.HERE)
        secret = f"canary-{os.urandom(12).hex()}"
        job = bench.job(programs.ENDS_LATER, "60", secrets=Secrets({"SUITE_SECRET": secret}))
        lease = bench.launch(job)
        bench.wait_ready(lease)
        assert _command_lines_with(secret) == []
        seen = bench.backend.observe(lease)
        assert secret not in f"{job!r} {lease!r} {seen!r} {bench.backend.leases()!r}"
        bench.backend.release(lease, keep=Keep.FILES)
        assert _files_with(secret, bench.rig.places()) == []

    def test_standard_input(self, bench: Bench) -> None:
        """launch: a step's standard input is the file the plan names, or nothing."""
        text = bench.file("prompt", b"one prompt\nno line end")
        with_file = bench.run(
            programs.SAYS_WHAT_IT_SEES,
            inputs=(LocalTree((text,)),),
            step={"stdin": "bundle/prompt"},
        )
        seen = bench.json(with_file.files, "output/seen.json")
        assert seen["stdin"] == _digest(b"one prompt\nno line end")
        without = bench.run(programs.SAYS_WHAT_IT_SEES)
        assert bench.json(without.files, "output/seen.json")["stdin"] == _digest(b"")

    def test_attached(self, bench: Bench) -> None:
        """launch: files of an earlier job are seen at their place, also after its release."""
        earlier = bench.run(programs.MAKES_FILES, '{"model": 1000}')
        files = bench.backend.release(earlier, keep=Keep.FILES)
        assert files is not None
        given = Attached(files, PurePosixPath("inputs/earlier"))
        lease = bench.run(programs.SAYS_WHAT_IT_SEES, inputs=(given,))
        seen = bench.json(lease.files, "output/seen.json")["files"]
        assert seen["inputs/earlier/output/model"] == _digest(b"model\n" * 1000)

    def test_attached_costs_no_upload(self, bench: Bench) -> None:
        """launch: files on the same provider cost no upload: not a byte."""
        bench.need(Trait.UPLOADS)
        earlier = bench.run(programs.MAKES_FILES, '{"model": 1000}')
        given = Attached(earlier.files, PurePosixPath("inputs/earlier"))
        before = bench.rig.uploaded_bytes()
        bench.run(programs.SAYS_WHAT_IT_SEES, inputs=(given,))
        assert bench.rig.uploaded_bytes() - before == 0

    def test_cache(self, bench: Bench) -> None:
        """launch: a cache's files are seen below its place, with their hashes."""
        cache, content = _cache(bench)
        lease = bench.run(programs.SAYS_WHAT_IT_SEES, caches=(cache,))
        seen = bench.json(lease.files, "output/seen.json")["files"]
        assert {path: seen.get(path) for path in content} == content

    def test_cache_is_sent_once(self, bench: Bench) -> None:
        """launch: a backend that holds a cache's key already sends nothing, also to a new place."""
        bench.need(Trait.UPLOADS)
        cache, _ = _cache(bench)
        bench.run(programs.HELLO, caches=(cache,))
        elsewhere = replace(cache, at=PurePosixPath("bundle/models/other name"))
        before = bench.rig.uploaded_bytes()
        lease = bench.run(programs.SAYS_WHAT_IT_SEES, caches=(elsewhere,))
        assert bench.rig.uploaded_bytes() - before == 0
        seen = bench.json(lease.files, "output/seen.json")["files"]
        assert "bundle/models/other name/config.json" in seen

    def test_clean(self, bench: Bench) -> None:
        """clean: takes nothing that a job or kept files need; says what it removes."""
        cache, content = _cache(bench)
        lease = bench.run(programs.SAYS_WHAT_IT_SEES, caches=(cache,))
        kept = bench.backend.release(lease, keep=Keep.FILES)
        assert kept is not None
        findings = bench.rig.backend().clean()
        assert all(found.ok and found.subject for found in findings), findings
        path = next(iter(content))
        assert _digest(bench.content(kept, path)) == content[path]
        bench.backend.release(lease, keep=Keep.NOTHING)
        for _ in range(2):
            findings = bench.rig.backend().clean()
            assert all(found.ok for found in findings), findings
        again = bench.run(programs.SAYS_WHAT_IT_SEES, caches=(cache,))
        seen = bench.json(again.files, "output/seen.json")["files"]
        assert {path: seen.get(path) for path in content} == content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _cache(bench: Bench) -> tuple[Cache, dict[str, str]]:
    """A cache of new content, and what a job should see of it."""
    token = bench.new_name()
    content = {"config.json": b"{}", "odd\nname/ü": token.encode(), "weights": b"w" * 50_000}
    files = tuple(bench.file(f"{token}/{name}", data, at=name) for name, data in content.items())
    at = PurePosixPath("bundle/models/base")
    key = _digest(b"".join(content.values()))
    return Cache(key, LocalTree(files), at), {
        f"{at}/{name}": _digest(data) for name, data in content.items()
    }


def _command_lines_with(text: str) -> list[str]:
    return [
        str(path)
        for path, content in _contents(Path("/proc").glob("[0-9]*/cmdline"))
        if text.encode() in content
    ]


def _files_with(text: str, places: object) -> list[str]:
    assert isinstance(places, (list, tuple))
    found = []
    for place in places:
        for path, content in _contents(Path(place).rglob("*")):
            if text.encode() in content or text in path.name:
                found.append(str(path))
    return found


def _contents(paths: Iterator[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in paths:
        try:
            if path.is_file():
                yield path, path.read_bytes()
        except OSError:
            continue
