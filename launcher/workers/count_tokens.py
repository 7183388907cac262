"""Count the tokens of a recipe's rows as axolotl would make them; runs in the managed environment.

    python -I count_tokens.py REQUEST.json ANSWER.json

The request is {"config": {...}, "rows": most rows of a data set, "bytes": a file's size above which
it is sampled without being read whole}; the working directory is the recipe's. The answer is
{"sets": [{"rows": of all its files, "looked": rows counted, "lengths": [tokens, ...]}]} or
{"failed": a sentence, "passing": whether it may go well another time}. A row that is fed twice (a
preference pair) has two lengths. Nothing is downloaded, and no code that the recipe brings is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_SIDES = (("chosen", "rejected"), ("completion", "completion"))
"""What a preference is between; of a judged answer (KTO) a second pass is made, too."""


class TooLargeError(Exception):
    """A data set that cannot be sampled without reading it whole."""


def count(request: dict[str, Any], scratch: Path) -> list[dict[str, Any]]:
    """Each data set in turn."""
    from axolotl.loaders import load_tokenizer
    from axolotl.utils.data import rl, sft
    from axolotl.utils.dict import DictDefault

    config = {**request["config"], "output_dir": str(scratch / "out")}
    config.setdefault("sequence_len", 512)
    config["tokenizer_config"] = config.get("tokenizer_config") or config["base_model"]
    config["trust_remote_code"] = False
    settled = _validated(config)
    tokenizer = load_tokenizer(settled)
    found = []
    for entry in settled.datasets:
        sample = _Sampling(request["rows"], request["bytes"], scratch)
        alone = DictDefault({**settled, "datasets": [entry]})
        module = rl if alone.rl else sft
        with _instead(module, "load_dataset_with_config", sample.of(module)):
            if alone.rl:
                lengths = list(_pairs(rl._load_split(alone, "train"), tokenizer))  # noqa: SLF001
            else:
                lengths = _single(alone, tokenizer)
        rows = len(lengths) / (2 if alone.rl else 1)
        found.append({"rows": round(rows * sample.times), "looked": rows, "lengths": lengths})
    return found


def _validated(config: dict[str, Any]) -> Any:
    """The config with axolotl's defaults, as far as data depend on it."""
    from axolotl.loaders.utils import load_model_config
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    settled = validate_config(DictDefault(config))
    with contextlib.suppress(Exception):  # only a tokenizer may be there
        settled.model_config_type = load_model_config(settled).model_type
    return settled


def _single(config: Any, tokenizer: Any) -> list[int]:
    """Tokens of each row of one data set that is fed row by row."""
    from axolotl.utils.data import sft, utils

    every: list[int] = []
    for entry in sft.datasets_with_name_generator(config.datasets):
        tokenised, _ = sft._load_and_process_single_dataset(  # noqa: SLF001 - its only way to one set
            dataset_config=entry,
            cfg=config,
            tokenizer=tokenizer,
            split="train",
            seed=config.seed or 42,
        )
        if not config.skip_prepare_dataset and "input_ids" in tokenised.column_names:
            tokenised = utils.handle_long_seq_in_dataset(tokenised, config.sequence_len, config)
        columns = [name for name in tokenised.column_names if name.startswith("input_ids")]
        if not columns:
            raise ValueError("its rows hold no tokens")
        every += [len(row) for name in columns for row in tokenised[name]]
    return every


def _pairs(rows: Any, tokenizer: Any) -> Iterator[int]:
    """Tokens of both sides of each row, its prompt with each."""
    for row in rows:
        sides = next((sides for sides in _SIDES if all(side in row for side in sides)), None)
        if sides is None:
            raise ValueError("its rows hold no answers to compare")
        before = _tokens(row.get("prompt"), tokenizer)
        for side in sides:
            yield before + _tokens(row[side], tokenizer)


def _tokens(said: Any, tokenizer: Any) -> int:
    if not said:
        return 0
    if isinstance(said, str):
        return len(tokenizer(said, add_special_tokens=False)["input_ids"])
    return len(tokenizer.apply_chat_template(said, tokenize=True, return_dict=True)["input_ids"])


class _Sampling:
    """Loads a data set as axolotl does, but no more than so many of its rows.

    times  how many times as many rows there are
    """

    def __init__(self, rows: int, size_bytes: int, scratch: Path) -> None:
        self.rows, self.bytes, self.scratch = rows, size_bytes, scratch
        self.times = 1.0

    def of(self, module: Any) -> Callable[..., Any]:
        """In place of `load_dataset_with_config` of a module of axolotl."""
        load = module.load_dataset_with_config

        def sampled(entry: Any, *_: Any, **__: Any) -> Any:
            path = Path(entry.path)
            if not path.exists():
                raise FileNotFoundError(f"{entry.path} is not on this computer")
            if path.is_file() and path.stat().st_size > self.bytes:
                return self._part_of(path, entry)
            saved = (path / "state.json").exists()  # mapped into memory, whatever its size
            if path.is_dir() and not saved and _size(path) > self.bytes:
                raise TooLargeError(f"{path.name} is too large to be sampled here")
            return self._fewer(load(entry, False, streaming=False), entry)

        return sampled

    def _fewer(self, dataset: Any, entry: Any) -> Any:
        if isinstance(dataset, dict):
            name = entry.split if entry.split in dataset else "train"
            if name not in dataset:
                raise ValueError(f"{entry.path} has no part named train: say which with split")
            dataset = dataset[name]
        if len(dataset) <= self.rows:
            return dataset
        self.times = len(dataset) / self.rows
        return dataset.select([int(number * self.times) for number in range(self.rows)])

    def _part_of(self, path: Path, entry: Any) -> Any:
        """Rows from all over a large file, which is not read whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from datasets import Dataset, load_dataset

        if "[" in str(entry.split or ""):
            raise TooLargeError(f"a part of {path.name} ({entry.split}) cannot be sampled here")
        if path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            groups = sorted({file.num_row_groups * part // 4 for part in range(4)})
            each = max(1, self.rows // len(groups))
            parts = [file.read_row_group(group).slice(0, each) for group in groups]
            table = pa.concat_tables(parts)
            self.times = file.metadata.num_rows / table.num_rows
            return Dataset(table.replace_schema_metadata(None))
        if path.suffix not in {".jsonl", ".json", ".ndjson"}:
            raise TooLargeError(f"{path.name} is too large to be sampled here")
        with path.open("rb") as file:
            if file.read(64).lstrip()[:1] == b"[":
                raise TooLargeError(f"{path.name} is one large list, and is not sampled here")
        lines = list(_lines(path, self.rows))
        kept = self.scratch / f"part-{len(lines)}.jsonl"
        kept.write_bytes(b"".join(lines))
        self.times = path.stat().st_size / kept.stat().st_size
        return load_dataset("json", data_files=str(kept), split="train")


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*"))


def _lines(path: Path, most: int) -> Iterator[bytes]:
    """Lines from places that chance picks, the same ones each time.

    A place falls into a long line more often than into a short one: the line after it is taken,
    whose length has nothing to do with it.
    """
    size = path.stat().st_size
    places = sorted(random.Random(0).sample(range(size), most))  # noqa: S311 - no secret
    with path.open("rb") as file:
        reached = 0
        for place in places:
            if place < reached:
                continue
            file.seek(place)
            file.readline()
            line = file.readline()
            reached = file.tell()
            if line.strip():
                yield line.rstrip(b"\n") + b"\n"


@contextlib.contextmanager
def _instead(module: Any, name: str, put: Any) -> Iterator[None]:
    was = getattr(module, name)
    setattr(module, name, put)
    try:
        yield
    finally:
        setattr(module, name, was)


def _is_passing(error: BaseException | None) -> bool:
    """Whether it is this computer's trouble of the moment: a full disk, too little memory."""
    while error is not None:
        if isinstance(error, OSError | MemoryError | ImportError):
            return True
        error = error.__cause__
    return False


def main(asked: Path, answer: Path) -> None:
    """Answer one request; whatever goes wrong is a sentence."""
    with tempfile.TemporaryDirectory(prefix="count-", dir=answer.parent) as folder:
        # What is read is unpacked there, and goes with it.
        os.environ["HF_DATASETS_CACHE"] = folder
        try:
            told: dict[str, Any] = {"sets": count(json.loads(asked.read_text()), Path(folder))}
        except Exception as error:  # noqa: BLE001 - whatever axolotl makes of it
            said = (str(error).strip().splitlines() or [""])[0]
            told = {"failed": f"{type(error).__name__}: {said}", "passing": _is_passing(error)}
    answer.write_text(json.dumps(told))


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # packages print while they are imported
        main(Path(sys.argv[1]), Path(sys.argv[2]))
