"""Wherever the files lie and however they are named, the job finds them by the config's paths."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher import bundle, recipe

letters = st.characters(exclude_characters="/\0\r\x85\u2028\u2029", exclude_categories=["Cs"])
names = st.text(letters, min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) < 60
)
steps = st.lists(names | st.sampled_from(["..", ".", "..", "sub"]), max_size=5)
forms = st.sampled_from(["relative", "absolute", "dotted", "doubled"])


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(os.path.realpath(tempfile.mkdtemp()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def write(base: Path, way: list[str], name: str, form: str, content: str) -> str:
    """A file that lies `way` from `base`; returns how the config writes its path."""
    place = Path(os.path.normpath(base.joinpath(*way)))
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(content)
    text = os.path.relpath(place / name, base)
    if way and ".." in way[1:]:
        here = base
        for step in way:  # a way down and up again needs every folder on it
            here = here / step
            here.mkdir(exist_ok=True)
        text = "/".join([*way, name])
    return {
        "relative": text,
        "absolute": str(place / name),
        "dotted": f"./{text}",
        "doubled": text.replace("/", "//"),
    }[form]


@settings(max_examples=60, deadline=None, database=None)
@given(
    base=st.lists(names, max_size=3),
    files=st.lists(st.tuples(steps, names, forms), min_size=1, max_size=4),
)
def test_every_path_of_the_config_leads_to_the_same_content_there(
    base: list[str], files: list[tuple[list[str], str, str]]
) -> None:
    with scratch() as top:
        folder = top.joinpath("a", "b", "c", "d", "e", "f", *base)
        folder.mkdir(parents=True)
        contents: dict[str, str] = {}
        for number, (way, name, form) in enumerate(files):
            try:
                text = write(folder, way, f"{number}{name}", form, f"content {number}")
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # a file's name and a folder's clash: no such tree can be
            contents[text] = f"content {number}"
        config = {"base_model": "o/m", "datasets": [{"path": text} for text in contents]}
        (folder / "the recipe.yml").write_text(yaml.safe_dump(config), "utf-8")
        gathered = bundle.gather(recipe.load(str(folder / "the recipe.yml"), cwd=top))

        run = top / "run"
        for file in gathered.files:
            assert file.at.parts[0] == "bundle"
            assert ".." not in file.at.parts
            (run / file.at).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.here, run / file.at)
        work = run / gathered.workdir
        work.mkdir(parents=True, exist_ok=True)  # the config itself lies there
        for entry, expected in zip(gathered.config["datasets"], contents.values(), strict=True):
            path = Path(os.path.normpath(work / entry["path"]))
            assert path.is_relative_to(run / "bundle")
            assert (work / entry["path"]).read_text() == expected
        assert len(gathered.files) == len({file.here for file in gathered.files})
        told = {change.key for change in gathered.changes}
        for index, (before, entry) in enumerate(
            zip(config["datasets"], gathered.config["datasets"], strict=True)
        ):
            assert (before != entry) == (f"datasets[{index}].path" in told)
