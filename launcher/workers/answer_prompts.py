"""Answer a file of prompts with a trained model that is loaded once.

Runs in axolotl's environment and stands alone. It loads the model and renders each prompt exactly
as `axolotl.cli.inference` does, so that both give the same answers under greedy decoding:

    python answer_prompts.py --config=CFG --adapter=DIR --prompts=IN.jsonl --answers=OUT.jsonl

IN holds one row a line, `{"prompt": …}`; OUT gets one line for each, in order: the row's own keys
and `answer` (the new text only) or `error`. Started again over a partial OUT, it goes on after its
last whole line. Exit code 0; 1 when not one prompt could be answered; 2 for bad input.

Prompts are answered in batches, padded on the left. In one batch sums are taken in another order
than alone, so where two tokens are all but equally likely the other may be taken;
`--batch-size=1` computes exactly what axolotl's own command computes.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

WINDOW_BATCHES = 16
"""Rows are put in order of length within this many batches; memory holds no more of them."""


class BadFile(Exception):
    """The prompts cannot be read, or the answers belong to other prompts."""


@dataclass(frozen=True)
class Row:
    """One line of the prompts: what it asks, or why it cannot be asked."""

    keys: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    error: str = ""


class Speaker(Protocol):
    """A model that answers."""

    longest: int | None
    """Tokens that a prompt must stay below; None when the model does not say."""

    def encode(self, prompt: str) -> list[int]:
        """The prompt's tokens, with the chat template around it."""

    def speak(self, prompts: Sequence[list[int]]) -> list[str]:
        """One answer for each prompt, computed together."""


def read_row(line: bytes, number: int) -> Row:
    """The row in a line; `number` counts from 1 and shows in the error."""
    try:
        text = line.removesuffix(b"\n").decode("utf-8-sig" if number == 1 else "utf-8")
        value = json.loads(text)
    except UnicodeDecodeError:
        return Row(error=f"line {number} is not UTF-8")
    except json.JSONDecodeError as wrong:
        what = "is empty" if not line.strip() else f"is not JSON: {wrong.msg}"
        return Row(error=f"line {number} {what}")
    except (ValueError, RecursionError) as wrong:
        return Row(error=f"line {number} cannot be read: {wrong}")
    if not isinstance(value, dict):
        return Row(error=f"line {number} is not an object with a prompt")
    keys = {key: kept for key, kept in value.items() if key not in ("answer", "error")}
    prompt = keys.get("prompt")
    if not isinstance(prompt, str):
        return Row(keys, error=f"line {number} has no text under 'prompt'")
    if not prompt.strip():
        return Row(keys, error=f"line {number} has an empty prompt")
    return Row(keys, prompt)


def written(row: Row, *, answer: str = "", error: str = "") -> bytes:
    """The line that goes out for a row."""
    said = {"error": error} if error else {"answer": answer}
    try:
        return (json.dumps(row.keys | said, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair: only the escaped form can carry it
        return (json.dumps(row.keys | said) + "\n").encode()


def resume(prompts: Path, answers: Path) -> int:
    """How many rows are answered already; what follows the last whole line is cut off.

    Raises BadFile when the lines that are there answer other prompts.
    """
    if not answers.exists():
        return 0
    rows = size = 0
    with answers.open("rb") as done, prompts.open("rb") as asked:
        for line in done:
            if not line.endswith(b"\n"):
                break
            rows += 1
            question = asked.readline()
            if not question or not _belongs(line, read_row(question, rows)):
                raise BadFile(f"{answers} holds answers to other prompts (line {rows})")
            size += len(line)
    os.truncate(answers, size)
    return rows


def _belongs(line: bytes, row: Row) -> bool:
    try:
        out = json.loads(line)
    except ValueError:
        return False
    said = isinstance(out, dict) and ("answer" in out or "error" in out)
    return said and out.get("prompt") == row.keys.get("prompt")


def count_lines(path: Path) -> int:
    """Lines in the file; the last needs no newline."""
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError as wrong:
        raise BadFile(f"cannot read the prompts: {wrong}") from None


@dataclass
class Session:
    """One pass over the prompts that are left."""

    speaker: Speaker
    batch_size: int
    total: int
    done: int
    answered: int = 0
    failed: int = 0

    def run(self, rows: Iterator[Row], out: Callable[[bytes], None]) -> None:
        """Answer all rows; `out` gets whole lines, in order, as soon as they can be given."""
        while window := list(islice(rows, self.batch_size * WINDOW_BATCHES)):
            lines: list[bytes | None] = [None] * len(window)
            given = 0
            for finished in self._window(window):
                for place, line in finished:
                    lines[place] = line
                ready = given
                while ready < len(lines) and lines[ready] is not None:
                    ready += 1
                out(b"".join(line for line in lines[given:ready] if line is not None))
                given = ready
                self.done += len(finished)
                bad = f", {self.failed} of them with an error" if self.failed else ""
                print(f"answered {self.done}/{self.total}{bad}", flush=True)

    def _window(self, window: list[Row]) -> Iterator[list[tuple[int, bytes]]]:
        """Lines with their place in the window, a batch at a time, longest prompts first."""
        refused: list[tuple[int, bytes]] = []
        asked: list[tuple[int, list[int]]] = []
        for place, row in enumerate(window):
            tokens, error = self._encode(row)
            if error:
                refused.append((place, self._line(row, "", error)))
            else:
                asked.append((place, tokens))
        if refused:
            yield refused
        asked.sort(key=lambda pair: len(pair[1]), reverse=True)
        while asked:
            batch, asked = asked[: self.batch_size], asked[self.batch_size :]
            said = self._speak([tokens for _, tokens in batch])
            yield [
                (place, self._line(window[place], *pair))
                for (place, _), pair in zip(batch, said, strict=True)
            ]

    def _encode(self, row: Row) -> tuple[list[int], str]:
        if row.error:
            return [], row.error
        try:
            tokens = self.speaker.encode(row.prompt)
        except Exception as wrong:  # noqa: BLE001 - a template may raise anything; only this row fails
            return [], f"the prompt cannot be rendered: {_short(wrong)}"
        limit = self.speaker.longest
        if limit is not None and len(tokens) >= limit:
            return [], f"the prompt has {len(tokens)} tokens, the model reads fewer than {limit}"
        return tokens, ""

    def _speak(self, batch: list[list[int]]) -> list[tuple[str, str]]:
        """(answer, error) for each prompt; when a batch fails, each is tried alone."""
        try:
            return [(answer, "") for answer in self.speaker.speak(batch)]
        except Exception as wrong:  # noqa: BLE001 - whatever it is, the other rows go on
            reason, memory = _short(wrong), _out_of_memory(wrong)
        # Past the `except`: while the error lives, it holds the batch's tensors.
        if len(batch) == 1:
            return [("", f"the model failed: {reason}")]
        if memory:
            self.batch_size = max(1, self.batch_size // 2)
        return [self._speak([tokens])[0] for tokens in batch]

    def _line(self, row: Row, answer: str, error: str) -> bytes:
        if error:
            self.failed += 1
        else:
            self.answered += 1
        return written(row, answer=answer, error=error)


def _short(wrong: BaseException) -> str:
    lines = str(wrong).strip().splitlines()
    return f"{type(wrong).__name__}: {lines[0]}" if lines else type(wrong).__name__


def _out_of_memory(wrong: BaseException) -> bool:
    text = str(wrong).lower()
    return "OutOfMemory" in type(wrong).__name__ or "memory" in text


class AxolotlSpeaker:
    """The model of an axolotl config, loaded as `axolotl.cli.inference` loads it."""

    def __init__(self, options: argparse.Namespace) -> None:
        from axolotl.cli.config import load_cfg
        from axolotl.cli.utils import load_model_and_tokenizer, resolve_chat_template_str

        # `strict` first: while it is true, axolotl drops overrides whose key the file lacks.
        chosen: dict[str, Any] = {"strict": False}
        if options.model:
            chosen["base_model"] = options.model
        else:
            chosen["lora_model_dir"] = options.adapter  # None for --base
        self.cfg = load_cfg(options.config, inference=True, rl=None, **chosen)
        self.cfg.sample_packing = False
        _refuse_diffusion()
        model, self.tokenizer, _ = load_model_and_tokenizer(cfg=self.cfg, inference=True)
        self.prompter = None
        self.template = None
        if options.prompter:
            prompters = importlib.import_module("axolotl.prompters")
            self.prompter = getattr(prompters, options.prompter)
        else:
            self.template = resolve_chat_template_str(self.cfg, self.tokenizer)
        self.model = model.to(self.cfg.device, dtype=self.cfg.torch_dtype)
        self.model.eval()
        self.longest = _positions(self.model.config)
        self.penalty = options.repetition_penalty
        self.generation = self._generation(options)

    def _generation(self, options: argparse.Namespace) -> dict[str, Any]:
        sampling: dict[str, Any] = {"do_sample": False}
        if options.temperature > 0:
            sampling = {
                "do_sample": True,
                "temperature": options.temperature,
                "top_p": 0.95,
                "top_k": 40,
            }
        return sampling | {
            "max_new_tokens": options.max_new_tokens,
            "bos_token_id": self.tokenizer.bos_token_id,
            "eos_token_id": self.tokenizer.eos_token_id,
            "pad_token_id": self.tokenizer.pad_token_id,
            "use_cache": True,
            "return_dict_in_generate": True,
        }

    def encode(self, prompt: str) -> list[int]:
        """The tokens axolotl's own command would feed the model."""
        if self.prompter is not None:
            prompt = next(self.prompter().build_prompt(instruction=prompt.strip("\n")))
        else:
            prompt = prompt.strip()
        if self.template:
            batch = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                return_tensors="pt",
                add_special_tokens=True,
                add_generation_prompt=True,
                chat_template=self.template,
                tokenize=True,
                return_dict=True,
            )
        else:
            batch = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=True)
        tokens: list[int] = batch["input_ids"][0].tolist()
        return tokens

    def speak(self, prompts: Sequence[list[int]]) -> list[str]:
        """Answers, with special tokens taken out."""
        import torch
        from transformers import GenerationConfig

        width = max(map(len, prompts))
        pad = self.tokenizer.pad_token_id or 0
        inputs = torch.tensor([[pad] * (width - len(row)) + row for row in prompts])
        real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
        inputs, real = inputs.to(self.cfg.device), real.to(self.cfg.device)
        extra: dict[str, Any] = {}
        penalty = self.penalty
        if not bool(real.all()):
            extra["attention_mask"] = self._mask(inputs, real)
            extra["logits_processor"] = [PenaltyBesidesPadding(penalty, real)]
            penalty = 1.0
        with torch.no_grad():
            generated = self.model.generate(
                inputs=inputs,
                generation_config=GenerationConfig(repetition_penalty=penalty, **self.generation),
                **extra,
            )
        return [self._text(row[width:].tolist()) for row in generated.sequences.cpu()]

    def _mask(self, inputs: Any, real: Any) -> Any:
        """What transformers infers for one prompt alone, and no attention to our padding."""
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        return real if pad is None or pad == end else real * (inputs != pad)

    def _text(self, tokens: list[int]) -> str:
        end = self.tokenizer.eos_token_id
        if end in tokens:
            tokens = tokens[: tokens.index(end)]
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


class PenaltyBesidesPadding:
    """transformers' repetition penalty, blind to the padding on the left.

    Its own would punish the padding token in padded rows only. In many models that token also ends
    an answer: a padded prompt would be answered at greater length than the same one alone.
    """

    def __init__(self, penalty: float, real: Any) -> None:
        self.penalty = penalty
        self.real = real

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The next token's scores, lowered for every token of the prompt or the answer so far."""
        import torch

        new = input_ids.shape[1] - self.real.shape[1]
        counted = torch.nn.functional.pad(self.real, (0, new), value=1)
        seen = torch.zeros(scores.shape, dtype=counted.dtype, device=scores.device)
        seen = seen.scatter_add(1, input_ids, counted) > 0
        punished = torch.where(scores < 0, scores * self.penalty, scores / self.penalty)
        return torch.where(seen, punished, scores)


def _positions(config: Any) -> int | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    value = getattr(text, "max_position_embeddings", None)
    return value if isinstance(value, int) and value > 0 else None


def _refuse_diffusion() -> None:
    from axolotl.integrations.base import PluginManager

    plugins = PluginManager.get_instance().plugins.values()
    if any(type(plugin).__name__ == "DiffusionPlugin" for plugin in plugins):
        raise BadFile("a diffusion model answers in axolotl's own inference only")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="answer_prompts", allow_abbrev=False)
    parser.add_argument("--config", required=True)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--adapter", help="folder with a LoRA adapter")
    weights.add_argument("--model", help="folder with a whole model, instead of the base model")
    weights.add_argument("--base", action="store_true", help="the base model as it is")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--prompter", help="a class of axolotl.prompters, as its inference takes")
    parser.add_argument("--max-new-tokens", type=int, default=1024)
    parser.add_argument("--repetition-penalty", type=float, default=1.1)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args(argv)
    if options.batch_size < 1 or options.max_new_tokens < 1:
        parser.error("--batch-size and --max-new-tokens are at least 1")
    return options


def main(argv: Sequence[str], load: Callable[[argparse.Namespace], Speaker] | None = None) -> int:
    """Answer what the command line names; `load` gives the model, axolotl's by default."""
    options = _options(argv)
    try:
        total = count_lines(options.prompts)
        done = resume(options.prompts, options.answers)
        if done == total:
            print(f"answered {done}/{total}", flush=True)
            return 0
        session = Session((load or _load)(options), options.batch_size, total, done)
        with options.prompts.open("rb") as asked, options.answers.open("ab") as file:
            numbered = islice(enumerate(asked, start=1), done, None)
            session.run((read_row(line, number) for number, line in numbered), _writer(file))
    except BadFile as wrong:
        print(f"answer_prompts: {wrong}", file=sys.stderr)
        return 2
    if session.failed:
        print(f"{session.failed} of {total} prompts have no answer; their lines say why")
    return 0 if session.answered else 1


def _load(options: argparse.Namespace) -> Speaker:
    return AxolotlSpeaker(options)


def _writer(file: Any) -> Callable[[bytes], None]:
    def write(lines: bytes) -> None:
        file.write(lines)
        file.flush()

    return write


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
