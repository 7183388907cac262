"""Let axolotl itself judge a config and prepare its data, and write down what came of it.

Runs in axolotl's environment, in the recipe's folder, and stands alone:

    python look_deep.py CONFIG ANSWER '{"capability": [8, 0], "gpus": 1, "rows": true}'

capability  of the GPU that is to be pretended; null for none
rows        also run what `axolotl preprocess --debug` runs; else only its validation

ANSWER gets one JSON object: `refused` (a list of {key, says}), `failed` (one sentence),
`datasets` (counts for the training's and the tests' rows) and `samples` (each a list of
[trained, text]). Exit code 0 when it was written.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SAMPLES = 3
MOST_TOKENS = 600
"""Of a sample: what is longer is cut, and says so."""

IGNORED = -100
"""The label of a token that is not trained on."""

Answer = dict[str, Any]


def counted(dataset: Any, limit: int, least: int) -> dict[str, int]:
    """Rows, tokens, and how many rows are too long, too short, or have nothing to train on."""
    found = dict.fromkeys(("rows", "tokens", "trained", "longest", "long", "short", "nothing"), 0)
    wanted = [name for name in ("input_ids", "labels") if name in dataset.column_names]
    for batch in dataset.select_columns(wanted).iter(batch_size=1000):
        labels = batch.get("labels") or batch["input_ids"]
        for ids, marks in zip(batch["input_ids"], labels, strict=True):
            trained = sum(mark != IGNORED for mark in marks)
            found["rows"] += 1
            found["tokens"] += len(ids)
            found["trained"] += trained
            found["longest"] = max(found["longest"], len(ids))
            found["long"] += len(ids) > limit
            found["short"] += len(ids) < least
            found["nothing"] += not trained
    return found


def runs(ids: list[int], labels: list[int], decode: Any) -> list[list[Any]]:
    """The row's text in pieces, each with whether it is trained on."""
    pieces: list[list[Any]] = []
    start = 0
    shown = min(len(ids), MOST_TOKENS)
    for at in range(1, shown + 1):
        if at == shown or (labels[at] == IGNORED) != (labels[start] == IGNORED):
            pieces.append([labels[start] != IGNORED, decode(ids[start:at])])
            start = at
    if shown < len(ids):
        pieces.append([False, f"… and {len(ids) - shown} tokens more"])
    return pieces


def pretend(gpu: tuple[int, int] | None, count: int) -> None:
    """Make axolotl see the GPU that will be there, in place of what is here."""
    import torch

    config = importlib.import_module("axolotl.cli.config")
    capabilities = {
        "bf16": gpu is not None and gpu >= (8, 0),
        "fp8": gpu is not None and gpu >= (9, 0),
        "tf32": gpu is not None and gpu >= (8, 0),
        "n_gpu": count,
        "compute_capability": None if gpu is None else f"sm_{gpu[0]}{gpu[1]}",
    }
    version = {"torch_version": str(torch.__version__).split("+", maxsplit=1)[0]}
    config.gpu_capabilities = lambda: (capabilities, version)  # type: ignore[attr-defined]


def listen(answer: Answer) -> None:
    """Write down what axolotl's own preparing does to the rows, and which it would show."""
    sft = importlib.import_module("axolotl.utils.data.sft")
    shown = importlib.import_module("axolotl.common.datasets")
    cut_or_drop = sft.handle_long_seq_in_dataset

    def handle(dataset: Any, limit: int, cfg: Any) -> Any:
        if "input_ids" not in (getattr(dataset, "column_names", None) or ()):
            return cut_or_drop(dataset, limit, cfg)
        least = int(cfg.min_sample_len or 2)
        before = counted(dataset, limit, least)
        strategy = (cfg.excess_length_strategy or "drop").lower()
        row = {"limit": limit, "strategy": strategy, "before": before}
        answer["datasets"].append(row)
        after = cut_or_drop(dataset, limit, cfg)
        row["after"] = counted(after, limit, least)
        return after

    def check(dataset: Any, tokenizer: Any, **_: Any) -> None:
        for row in dataset if "labels" in dataset.column_names else ():  # not of preferences
            answer["samples"].append(runs(row["input_ids"], row["labels"], tokenizer.decode))

    def sample(dataset: Any, number: int) -> Any:
        return dataset.select(range(min(number, len(dataset))))

    sft.handle_long_seq_in_dataset = handle  # type: ignore[attr-defined]
    shown.check_dataset_labels = check  # type: ignore[attr-defined]
    shown.sample_dataset = sample  # type: ignore[attr-defined]


def refusals(wrong: Exception) -> Iterator[dict[str, str]]:
    """What a validation says, key by key where it has keys."""
    errors = getattr(wrong, "errors", None)
    if not callable(errors):
        yield {"key": "", "says": sentence(wrong)}
        return
    for each in errors():
        key = ".".join(str(part) for part in each.get("loc", ()))
        yield {"key": key, "says": str(each.get("msg", "")).removeprefix("Value error, ")}


def sentence(wrong: BaseException) -> str:
    """Its first line, or its kind."""
    lines = str(wrong).strip().splitlines()
    return lines[0] if lines else type(wrong).__name__


def look(config: Path, options: dict[str, Any]) -> Answer:
    """Do what the options say; every exception of axolotl's becomes part of the answer."""
    from axolotl.cli.args import PreprocessCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.preprocess import do_preprocess

    answer: Answer = {"refused": [], "failed": "", "datasets": [], "samples": []}
    gpu = options["capability"]
    pretend(None if gpu is None else (gpu[0], gpu[1]), options["gpus"])
    try:
        cfg = load_cfg(str(config), is_preprocess=True)
    except Exception as wrong:  # noqa: BLE001 - whatever it raises, it refuses the config
        answer["refused"] = list(refusals(wrong))
        return answer
    if not options["rows"]:
        return answer
    listen(answer)
    cfg.is_preprocess = True
    try:
        # The weights are not needed: only a tokenizer is loaded.
        do_preprocess(
            cfg, PreprocessCliArgs(debug=True, debug_num_examples=SAMPLES, download=False)
        )
    except (Exception, SystemExit) as wrong:  # noqa: BLE001 - as above
        answer["failed"] = sentence(wrong)
    return answer


def main(argv: list[str]) -> int:
    """Look, and write the answer whole or not at all."""
    config, target, options = Path(argv[0]), Path(argv[1]), json.loads(argv[2])
    os.environ["AXOLOTL_IS_PREPROCESS"] = "1"
    sys.path.insert(0, str(Path.cwd()))  # where a recipe's own modules lie
    answer = look(config, options)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
