"""Write down every key that the pinned axolotl reads, for the check of misspelled keys.

axolotl drops a key it does not know without a word, and the launcher never imports axolotl: so the
list is made here, once per axolotl version, and committed.

    PYTHON-WITH-AXOLOTL scripts/list_axolotl_keys.py launcher/preflight/axolotl_keys.json

The file holds
    axolotl     the version the list was made from
    keys        key -> null, or the keys of the mapping (or of the list's mappings) below it
    plugins     package under axolotl.integrations -> the keys its plugin adds, in the same form
    templates   the names `chat_template` may have
    optimizers  the names `optimizer` may have
    schedulers  the names `lr_scheduler` may have
    strategies  the names a data set's `type` may have, without what follows a colon
    required    keys without which axolotl refuses a config
    types       key -> what its value may be: a list of any of "bool", "int", "float", "str",
                "null", "map", "any", {"is": VALUE} for one of a few words, {"list": [...]} for a
                list of such; `datasets[]` holds the same for one entry of a list of data sets
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import json
import os
import sys
import types
import typing
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

Keys = dict[str, Any]
_UNTIED = (typing.Union, types.UnionType, typing.Annotated, list, tuple)


def models_in(annotation: Any) -> tuple[list[Any], bool]:
    """The pydantic models a value of this type can be, and whether a free mapping can be too."""
    from pydantic import BaseModel  # noqa: PLC0415 - after the variables are set

    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation], annotation.model_config.get("extra") == "allow"
    if annotation is Any or typing.get_origin(annotation) is dict or annotation is dict:
        return [], True
    found: list[Any] = []
    free = False
    if typing.get_origin(annotation) in _UNTIED:
        for part in typing.get_args(annotation):
            more, loose = models_in(part)
            found += more
            free = free or loose
    return found, free


def names_of(name: str, field: Any) -> list[str]:
    """Every name under which pydantic takes the field."""
    names = {name}
    if field.alias:
        names.add(field.alias)
    alias = field.validation_alias
    names.update(choice for choice in getattr(alias, "choices", [alias]) if isinstance(choice, str))
    return sorted(names)


def keys_of(model: Any, above: tuple[Any, ...] = ()) -> Keys:
    """The keys of a model, with the keys of what lies below."""
    keys: Keys = {}
    for name, field in model.model_fields.items():
        models, free = models_in(field.annotation)
        below: Keys | None = None
        if models and not free:
            below = {}
            for part in models:
                if part not in above:
                    below.update(keys_of(part, (*above, part)))
        for each in names_of(name, field):
            keys[each] = below or None
    return keys


_PLAIN = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null", dict: "map"}


def kinds_of(annotation: Any) -> list[Any]:
    """What a value of this type may be, in the form of `types`; "any" where it is hard to say."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        return [kind for part in args for kind in kinds_of(part)]
    if origin is typing.Annotated:
        return kinds_of(args[0])
    if origin is typing.Literal:
        return [{"is": value} for value in args]
    if origin in {list, tuple}:
        return [{"list": kinds_of(args[0]) if args else ["any"]}]
    if annotation is list:
        return [{"list": ["any"]}]
    if origin is dict or (inspect.isclass(annotation) and hasattr(annotation, "model_fields")):
        return ["map"]
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        words = [{"is": each.value} for each in annotation if isinstance(each.value, str)]
        return words if len(words) == len(annotation) else ["any"]
    return [_PLAIN.get(annotation, "any")]


def types_of(model: Any) -> dict[str, list[Any]]:
    """Every key of a model with the kinds of its value, each kind once."""
    found: dict[str, list[Any]] = {}
    for name, field in model.model_fields.items():
        kinds = []
        for kind in kinds_of(field.annotation):
            if kind not in kinds:
                kinds.append(kind)
        for each in names_of(name, field):
            found[each] = ["any"] if "any" in kinds else kinds
    return found


def plugin_models(package: Path) -> list[str]:
    """What the plugins of an integration return from `get_input_args`, read, not imported."""
    found = []
    for source in sorted(package.glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "get_input_args":
                found += [
                    part.value.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Return)
                    and isinstance(part.value, ast.Constant)
                    and isinstance(part.value.value, str)
                ]
    return found


def plugin_keys(integrations: Path) -> dict[str, Keys]:
    """The keys that each integration's plugin adds."""
    plugins: dict[str, Keys] = {}
    for package in sorted(path for path in integrations.iterdir() if (path / "args.py").is_file()):
        name = f"axolotl.integrations.{package.name}"
        if name not in sys.modules:
            # The package itself may need what is not installed; its arguments never do.
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(package)]
        module = importlib.import_module(f"{name}.args")
        keys: Keys = {}
        for dotted in plugin_models(package):
            keys.update(keys_of(getattr(module, dotted.rsplit(".", 1)[-1])))
        if keys:
            plugins[package.name] = keys
    return plugins


def strategies(package: Path) -> list[str]:
    """The data set types that are modules of axolotl, with their variants; read, not imported."""
    found = ["explainchoice", "concisechoice", "summarizetldr", "jeopardy", "oasst"]
    found += ["gpteacher", "reflection", "alpaca", "messages", "_synthetic"]
    for source in sorted(package.glob("[a-z]*.py")):
        for node in ast.parse(source.read_text("utf-8")).body:
            names = [node.name] if isinstance(node, ast.FunctionDef) else []
            targets = node.targets if isinstance(node, ast.Assign) else []
            names += [target.id for target in targets if isinstance(target, ast.Name)]
            for name in names:
                found += [source.stem] * (name == "load")
                found += [f"{source.stem}.{name}"] * name.startswith("load")
    return sorted(set(found) - {"base", "base.load"})


def main(out: Path) -> None:
    """Write the list to `out`."""
    import axolotl.integrations  # noqa: PLC0415 - after the variables are set
    from axolotl.utils.schemas.config import AxolotlInputConfig  # noqa: PLC0415 - after the variables are set
    from axolotl.utils.schemas.datasets import SFTDataset  # noqa: PLC0415 - after the variables are set
    from axolotl.utils.schemas.enums import (  # noqa: PLC0415 - after the variables are set
        ChatTemplate,
        CustomSupportedOptimizers,
    )
    from transformers.trainer_utils import SchedulerType  # noqa: PLC0415 - after the variables are set
    from transformers.training_args import OptimizerNames  # noqa: PLC0415 - after the variables are set

    optimizers = [*OptimizerNames, *CustomSupportedOptimizers]
    prompts = Path(next(iter(axolotl.integrations.__path__))).parent / "prompt_strategies"

    document = {
        "axolotl": version("axolotl"),
        "keys": keys_of(AxolotlInputConfig),
        "plugins": plugin_keys(Path(next(iter(axolotl.integrations.__path__)))),
        "templates": sorted(template.value for template in ChatTemplate),
        "optimizers": sorted({optimizer.value for optimizer in optimizers}),
        "schedulers": sorted({*(each.value for each in SchedulerType), "one_cycle", "rex"}),
        "strategies": strategies(prompts),
        "required": sorted(
            name for name, field in AxolotlInputConfig.model_fields.items() if field.is_required()
        ),
        "types": {**types_of(AxolotlInputConfig), "datasets[]": types_of(SFTDataset)},
    }
    out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
