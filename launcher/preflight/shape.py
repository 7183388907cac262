"""What every config must have, and the form of its list of data sets."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.preflight.problem import DATASET_KEYS, Look, Problem
from launcher.recipe import references
from launcher.recipe.overrides import format_axolotl_takes, format_of
from launcher.recipe.references import BUILDERS, Fate, Kind
from launcher.wording import shown


def essentials(look: Look) -> Iterator[Problem]:
    """A base model, and data."""
    model = look.config.get("base_model")
    if model is None:
        yield look.error(
            (), "the key base_model is missing", "name a model: base_model: owner/name"
        )
    elif not isinstance(model, str) or not model.strip():
        yield look.error(("base_model",), "base_model is not the name of a model")
    if not any(look.config.get(key) for key in DATASET_KEYS if key != "test_datasets"):
        yield look.error(
            (),
            "there are no data: neither datasets nor pretraining_dataset says anything",
            "add datasets: [{path: my.jsonl, type: alpaca}]",
        )


def dataset_lists(look: Look) -> Iterator[Problem]:
    """A list of mappings, each with a path that is text."""
    for key in DATASET_KEYS:
        entries = look.config.get(key)
        if entries is None or (key == "pretraining_dataset" and isinstance(entries, str)):
            continue
        if not isinstance(entries, list):
            kind = "a mapping" if isinstance(entries, dict) else "a single value"
            yield look.error(
                (key,),
                f"{key} is {kind}, and must be a list",
                "begin each entry with a dash: - path:",
            )
            continue
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                yield look.error(
                    (key, index), f"{key}[{index}] must be a mapping with path and type"
                )
            elif entry.get("path") is None and entry.get("type") != "_synthetic":
                yield look.error((key, index), f"{key}[{index}] has no path", "add path:")
            elif not isinstance(entry.get("path", ""), str):
                yield look.error((key, index, "path"), f"the path of {key}[{index}] is not text")


def old_ways(look: Look) -> Iterator[Problem]:
    """What used to work and now fails in the middle of a run."""
    for at, entry in look.datasets():
        kind, path = entry.get("type"), entry.get("path")
        if isinstance(kind, str) and kind.split(":")[0].split(".")[0] == "sharegpt":
            yield look.error(
                (*at, "type"),
                "the data set type sharegpt is gone: axolotl refuses it",
                "`ftlaunch migrate` rewrites it; by hand: use type: chat_template with "
                "field_messages: conversations and "
                "message_property_mappings: {role: from, content: value}; "
                "conversation: goes too, chat_template: takes its place",
            )
        elif kind == "chat_template" and entry.get("conversation") is not None:
            yield look.warning(
                (*at, "conversation"),
                "conversation is of the old type sharegpt, and chat_template does not read it",
                "remove it; to choose a template: chat_template: NAME",
            )
        here = isinstance(path, str) and references.exists(look.recipe.base_dir / path)
        if isinstance(path, str) and path in BUILDERS and entry.get("data_files") and not here:
            yield look.error(
                (*at, "path"),
                f"axolotl no longer takes the format {path!r} as a path",
                f"give the file: path: {shown(_first(entry['data_files']))}, ds_type: {path}",
            )


def nothing_to_evaluate(look: Look) -> Iterator[Problem]:
    """The step evaluate, with no data kept for it."""
    config = look.config
    if look.recipe.launch.steps.evaluate and not (
        config.get("val_set_size") or config.get("test_datasets")
    ):
        yield Problem(
            "warning",
            look.recipe.where_said("steps.evaluate"),
            "steps.evaluate is true, and no data are kept for it",
            "set val_set_size: 0.05, or give test_datasets",
        )


def _first(files: object) -> str:
    return str(files[0]) if isinstance(files, list) and files else str(files)


def local_files(look: Look) -> Iterator[Problem]:
    """How axolotl reads a local file: its format, and its only split."""
    for at, entry in look.datasets():
        path = entry.get("path")
        if not isinstance(path, str) or not references.here(path, look.recipe.base_dir).is_file():
            continue
        meant, taken = format_of(path), entry.get("ds_type") or format_axolotl_takes(path)
        if meant is not None and taken != meant:
            yield look.error(
                (*at, "path"),
                f"axolotl would read {shown(path)} as {shown(str(taken))}",
                f"say what it is: ds_type: {meant}",
            )
        split = entry.get("split")
        if isinstance(split, str) and not split.startswith("train"):
            yield look.error(
                (*at, "split"),
                f"{shown(path)} is a file, and a file has only the split train, not {shown(split)}",
                "remove split",
            )


def taken_for_a_hub_id(look: Look) -> Iterator[Problem]:
    """`data/train` is a hub id to axolotl when there is no such file, even beside `data/`."""
    for ref in look.references:
        owner = ref.text.partition("/")[0]
        if ref.fate is not Fate.HUB or ref.kind is Kind.UPLOAD or "/" not in ref.text:
            continue
        if (look.recipe.base_dir / owner).is_dir():
            yield look.warning(
                ref.key,
                f"{ref.text} is taken as the id of a {ref.kind} on the hub: "
                f"the folder {owner} is here, and holds no {ref.text.partition('/')[2]}",
                "if it is meant as a file, check its name",
            )
