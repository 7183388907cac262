"""A recipe by URL, and by the name of a bundled one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from backends.errors import BadInput, FtlaunchError, Refused
from launcher import bundle, bundled, bundled_copy, preflight, recipe
from launcher.recipe import source

URL = "https://example.org/some/My%20recipe.yml?raw=1"


def fetch(answer: Callable[[httpx.Request], httpx.Response], url: str = URL) -> source.Text:
    return source._download(url, transport=httpx.MockTransport(answer))


def test_a_recipe_is_read_from_a_url() -> None:
    text = fetch(lambda request: httpx.Response(200, text="base_model: m\n"))
    assert (text.name, text.label, text.text, text.folder) == (
        "My recipe",
        URL,
        "base_model: m\n",
        None,
    )


def test_redirects_are_followed_but_only_to_https() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/a":
            return httpx.Response(302, headers={"location": "/b"})
        return httpx.Response(200, text=request.url.path)

    assert fetch(answer, "https://example.org/a").text == "/b"
    with pytest.raises(BadInput, match="over http, where anybody"):
        fetch(lambda _: httpx.Response(302, headers={"location": "http://example.org/b"}))
    with pytest.raises(BadInput, match="redirects more than"):
        fetch(lambda request: httpx.Response(302, headers={"location": str(request.url)}))


@pytest.mark.parametrize("url", ["http://example.org/a.yml", "file:///etc/passwd", "s3://b/a.yml"])
def test_anything_but_https_is_refused_without_a_request(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="would be read over"):
        recipe.load(url, cwd=tmp_path)


def test_a_url_that_is_none_is_bad_input(tmp_path: Path) -> None:
    for url in ("https://", "https://[x", "https://exa mple.org:nan/x"):
        with pytest.raises(BadInput):
            recipe.load(url, cwd=tmp_path)


def raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda _: httpx.Response(404), "answers 404 Not Found"),
        (lambda _: httpx.Response(500), "answers 500"),
        (
            raising(httpx.ConnectError("no route\nto host")),
            r"cannot be fetched: no route\\nto host",
        ),
        (raising(httpx.ReadTimeout("slow")), "did not answer within"),
        (raising(httpx.RemoteProtocolError("")), "cannot be fetched: RemoteProtocolError"),
        (lambda _: httpx.Response(200, text=" <!DOCTYPE html>"), "is a web page"),
        (lambda _: httpx.Response(200, content=b"\0"), "is a binary file"),
        (lambda _: httpx.Response(200, content=b""), "is empty"),
        (lambda _: httpx.Response(200, content=b"a" * (3 << 20)), "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_sentence(
    answer: Callable[[httpx.Request], httpx.Response], says: str
) -> None:
    with pytest.raises(FtlaunchError, match=says) as caught:
        fetch(answer)
    assert URL in caught.value.message


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    served = 0

    def endless() -> object:
        nonlocal served
        while True:
            served += 1
            yield b"a" * 65536

    with pytest.raises(Refused, match="larger than 1 MiB"):
        fetch(lambda _: httpx.Response(200, content=endless()))  # type: ignore[arg-type]
    assert served < 64


# ── bundled ───────────────────────────────────────────────────────────────────────────────────


def test_a_bundled_recipe_is_found_by_name_from_anywhere(tmp_path: Path) -> None:
    found = recipe.load("quickstart", cwd=tmp_path)
    assert (found.name, found.origin) == ("quickstart", "quickstart.yml (bundled recipe)")
    assert found.base_dir == bundled.configs_dir().resolve()


def test_a_path_that_exists_wins_over_a_name_and_a_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "quickstart").mkdir()
    assert recipe.load("quickstart", cwd=tmp_path).origin == "quickstart.yml (bundled recipe)"
    (tmp_path / "tiny").write_text("base_model: mine\n")
    assert recipe.load("tiny", cwd=tmp_path).config == {"base_model": "mine"}


def test_an_unknown_name_gets_a_guess_and_the_list(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no bundled recipe of that name") as caught:
        recipe.load("quikstart", cwd=tmp_path)
    assert "did you mean 'quickstart'?" in caught.value.hint
    assert ", ".join(bundled.recipe_names()) in caught.value.hint


@pytest.mark.parametrize("name", bundled.recipe_names())
def test_every_bundled_recipe_is_without_fault_and_can_be_copied(name: str, tmp_path: Path) -> None:
    found = recipe.load(name, cwd=tmp_path)
    assert preflight.examine(found) == []
    made = bundled_copy.copy_bundled(name, tmp_path / "mine")
    copy = recipe.load(str(made[0]), cwd=tmp_path)
    assert copy.base_dir == (tmp_path / "mine").resolve()
    assert copy.config == found.config
    assert preflight.examine(copy) == []
    before, after = bundle.gather(found), bundle.gather(copy)
    assert [(f.at, f.sha256) for f in after.files] == [(f.at, f.sha256) for f in before.files]
    with pytest.raises(BadInput, match="is there already"):
        bundled_copy.copy_bundled(name, tmp_path / "mine")


@pytest.mark.parametrize("name", bundled.recipe_names())
def test_every_bundled_recipe_can_be_shown(name: str) -> None:
    texts = bundled_copy.bundled_texts(name)
    assert [title for title, _ in texts] == [
        f"{name}.yml (bundled {what})" for what in ("recipe", "config")
    ]
    assert all(isinstance(yaml.safe_load(text), dict) for _, text in texts)


def test_every_bundled_config_is_a_plain_axolotl_config(tmp_path: Path) -> None:
    for path in bundled.configs_dir().glob("*.yml"):
        found = recipe.load(str(path), cwd=tmp_path)
        assert found.said is None
        assert not [p for p in preflight.examine(found) if p.severity == "error"]


# ── what is no recipe ─────────────────────────────────────────────────────────────────────────


def test_an_empty_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the recipe's name is empty"):
        recipe.load("", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [("d.jsonl", '{"text": "a"}\n'), ("d.json", '[{"text": "a"}]'), ("d", '{"a": 1}\n{"a": 2}\n')],
)
def test_data_given_as_a_recipe_are_told(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match="holds data") as caught:
        recipe.load(name, cwd=tmp_path)
    assert "--data" in caught.value.hint


def test_a_recipe_written_as_json_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{\n"base_model": "m",\n"datasets": []\n}')
    assert recipe.load("r.json", cwd=tmp_path).config["base_model"] == "m"


def test_an_empty_file_is_shown_the_way_to_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text("# nothing\n")
    with pytest.raises(Refused) as caught:
        recipe.load("r.yml", cwd=tmp_path)
    assert caught.value.hint.endswith("ftlaunch recipes show quickstart")


def test_a_network_that_fails_is_no_mistake_of_the_command_line() -> None:
    with pytest.raises(Refused, match=r"cannot be fetched: Name or service not known$"):
        fetch(raising(httpx.ConnectError("[Errno -2] Name or service not known")))


def test_a_hub_id_after_data_is_told_where_it_goes(tmp_path: Path) -> None:
    (tmp_path / "r.yml").write_text("base_model: m\ndatasets: [{path: o/s}]\n")
    with pytest.raises(BadInput) as caught:
        recipe.load("r.yml", data=Path("owner/name"), cwd=tmp_path)
    assert "--set datasets[0].path=owner/name" in caught.value.hint
