"""The manifest: every output file with size and digest, whatever it is called, whatever the end."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from runner_rig import Rig, step

from backends import runner


@pytest.mark.parametrize(
    ("glob", "matches", "leaves"),
    [
        ("output/**", ["output/a", "output/b/c/d", "output/.hidden"], ["outputs/a", "output"]),
        ("output", ["output/a", "output/b/c", "output"], ["outputs/a"]),
        ("output/*.json", ["output/a.json", "output/.json"], ["output/b/a.json", "output/ajson"]),
        ("**/*.bin", ["a.bin", "x/y/a.bin"], ["a.bins"]),
        ("output/**/last", ["output/last", "output/a/b/last"], ["output/blast"]),
        ("o/[a-c]?", ["o/a1", "o/cx"], ["o/d1", "o/a"]),
        ("o/[!a]", ["o/b"], ["o/a"]),
        ("o/[", ["o/["], ["o/x"]),
        ("o/a+(b)", ["o/a+(b)"], ["o/aab"]),
        ("o/new\nline*", ["o/new\nlines"], ["o/new"]),
    ],
)
def test_globs(glob: str, matches: list[str], leaves: list[str]) -> None:
    made = runner.glob_regex(glob)
    assert [path for path in matches if not made.fullmatch(path)] == []
    assert [path for path in leaves if made.fullmatch(path)] == []


def test_files_of_odd_names_are_listed_with_their_digests(rig: Rig) -> None:
    names = [b"plain", b"a b", b"-x", b"new\nline", "ünï→".encode(), b"bytes\xff", b"'\"\\"]
    (rig.folder / "output" / "d").mkdir(parents=True)
    out = os.fsencode(rig.folder) + b"/output/d/"
    for name in names:
        Path(os.fsdecode(out + name)).write_bytes(name)
    for locale in ("C", "C.UTF-8"):
        rig.env["LC_ALL"] = locale
        rig.plan(step(""))
        assert rig.run("--attempt")["phase"] == "succeeded"
        listed = {os.fsencode(str(file.path)): file for file in rig.manifest().files}
        assert set(listed) == {b"output/d/" + name for name in names}
        for name in names:
            file = listed[b"output/d/" + name]
            assert (file.size_bytes, file.sha256) == (len(name), hashlib.sha256(name).hexdigest())


def test_links_are_followed_inside_and_never_outside(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not ours")
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "file").write_text("not ours")
    out = rig.folder / "output"
    (out / "real").mkdir(parents=True)
    (out / "real" / "file").write_text("x")
    (out / "inside").symlink_to("real/file")
    (out / "outside").symlink_to(tmp_path / "secret")
    (out / "folder").symlink_to("real")
    (out / "loop").symlink_to("..")
    (out / "broken").symlink_to("nothing")
    (rig.folder / "elsewhere").symlink_to(tmp_path / "away")
    os.mkfifo(out / "pipe")
    rig.plan(step(""), outputs=["output/**", "elsewhere/**", "../*"])
    rig.run()
    assert [str(file.path) for file in rig.manifest().files] == [
        "output/inside",
        "output/real/file",
    ]


def test_what_is_the_runners_own_is_never_listed(rig: Rig) -> None:
    rig.plan(step("open('mine', 'w').write('x')"), outputs=["**", "!output/**"])
    (rig.folder / "output").mkdir()
    (rig.folder / "output" / "left out").touch()
    rig.run()
    assert [str(file.path) for file in rig.manifest().files] == ["mine"]


def test_a_failed_run_has_a_manifest_too(rig: Rig) -> None:
    code = "import os; os.mkdir('output'); open('output/x', 'w').write('kept'); raise SystemExit(4)"
    rig.plan(step(code))
    rig.run()
    manifest = rig.manifest()
    assert manifest.verdict == "failed"
    assert [str(file.path) for file in manifest.files] == ["output/x"]


def test_the_verdict_is_never_seen_without_the_manifest(rig: Rig) -> None:
    rig.plan(step("import os; os.mkdir('output'); open('output/x', 'wb').write(bytes(50_000_000))"))
    rig.ask("start")
    seen = set()
    while (state := rig.state())["phase"] not in runner.ENDED:
        seen.add(state["outcome"])
    assert rig.manifest().files[0].size_bytes == 50_000_000
    assert None in seen


def test_a_new_attempt_takes_the_old_manifest_away(rig: Rig) -> None:
    rig.plan(
        step("import os; open('began','w'); os.path.exists('go') or __import__('time').sleep(1000)")
    )
    (rig.folder / "go").touch()
    rig.run()
    (rig.folder / "go").unlink()
    rig.ask("start", "--attempt")
    rig.until("the manifest to go", lambda: not (rig.folder / "manifest.json").exists())
    rig.ask("stop", "--now")
    rig.until_ended()
    content = json.loads((rig.folder / "manifest.json").read_bytes())
    assert (content["attempt"], content["verdict"]) == (2, "stopped")
