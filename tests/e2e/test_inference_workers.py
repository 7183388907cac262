"""Asking a trained model, with real axolotl on the tiny model: our worker, its chat, its page.

An axolotl command spends most of its time importing, so each test starts as few as it can.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from backends.lease import Address
from backends.plan import RunPath
from launcher import commands, environment, terminal
from launcher.answers import extract_answer
from launcher.commands import Decoding, Target
from launcher.workers import idle_guard

pytestmark = [pytest.mark.axolotl, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0
ADAPTER = RunPath("inputs/train/output")
CPU = Target("cpu")
RULE = "=" * 80
ASKS = f"{RULE}\nGive me an instruction (Ctrl + D to submit): \n{RULE}\n"
TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")

ON_CPU = """
lora_mlp_kernel: false
lora_qkv_kernel: false
lora_o_kernel: false
flash_attention: false
bf16: false
strict: true
"""

NEW_TOKENS = 48

# The tiny model as it is made repeats one token. With larger weights it babbles, and with this seed
# the best token is ahead of the next by 0.001 in every place: batches and single prompts, which
# differ by a millionth, must agree.
BABBLE = """
import sys
import torch
from safetensors.torch import load_file, save_file

torch.manual_seed(16)
for name, mark, change in (
    ("model/model", "layers.", lambda old: old * 12 if old.dim() == 2 else old),
    ("adapter/adapter_model", "lora_B", lambda old: torch.randn_like(old) * 0.2),
):
    path = f"{sys.argv[1]}/tiny/{name}.safetensors"
    tensors = {key: change(old) if mark in key else old for key, old in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
"""

# axolotl's own inference, but greedy, short, and with several prompts on one standard input.
GREEDY = """
import json, sys
import fire
import axolotl.cli.inference as inference

prompts, new_tokens = json.loads(sys.argv.pop(1))
Sampling = inference.GenerationConfig

class Greedy(Sampling):
    def __init__(self, **values):
        for name in ("temperature", "top_p", "top_k"):
            values.pop(name, None)
        if "do_sample" in values:
            values |= {"do_sample": False, "max_new_tokens": new_tokens}
        super().__init__(**values)

class Typed:
    def __iter__(self):
        return iter([prompts.pop(0)] if prompts else [])

inference.GenerationConfig = Greedy
sys.stdin = Typed()
fire.Fire(inference.do_cli)
"""

ENDINGS = """
import json
from pathlib import Path
import importlib.util
from transformers.utils.chat_template_utils import render_jinja_template

package = Path(importlib.util.find_spec("axolotl").origin).parent
talk = [{"role": "user", "content": "QUESTION"}]
texts = {}
for path in sorted((package / "utils/chat_templates/templates").glob("*.jinja")):
    rendered, _ = render_jinja_template(
        [talk], chat_template=path.read_text(), add_generation_prompt=True,
        bos_token="<s>", eos_token="</s>",
    )
    texts[path.name] = rendered[0]
print(json.dumps(texts))
"""


@dataclass(frozen=True)
class Job:
    """A run directory as a job sees it, and the environment it runs in."""

    root: Path
    python: Path

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    @property
    def environ(self) -> dict[str, str]:
        own = {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **own, "PATH": path}

    def argv(self, command: commands.Argv) -> list[str]:
        """What the runner makes of a command."""
        return [
            f"{word.prefix}{self.root / word.path}" if isinstance(word, RunPath) else str(word)
            for word in command
        ]

    def run(self, argv: list[str]) -> str:
        """Run to the end, which must be good; everything it printed."""
        log = self.root / "log"
        with log.open("wb") as out:
            ended = subprocess.run(  # noqa: PLW1510 - judged below, with its log
                argv,
                cwd=self.bundle,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            )
        printed = log.read_bytes().decode(errors="replace")
        assert ended.returncode == 0, printed[-5000:]
        return printed

    @contextmanager
    def start(
        self, argv: list[str], variables: Mapping[str, str] | None = None
    ) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
        """Run in the background, in a group of its own, until the block ends."""
        log = self.root / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                argv,
                cwd=self.bundle,
                env={**self.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process, lambda: log.read_bytes().decode(errors="replace")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run directory with the tiny model, as if its training were done."""
    given = os.environ.get("FTLAUNCH_TEST_AXOLOTL_PREFIX")
    prefix = Path(given) if given else environment.ensure(environment.choose({}, gpu=False))
    root = tmp_path_factory.mktemp("odd, 'name\" #1 é")
    made = Job(root, environment.python_of(prefix))
    made.bundle.mkdir()
    made.run([str(made.python), str(ROOT / "scripts" / "make_tiny.py"), str(made.bundle)])
    made.run([str(made.python), "-c", BABBLE, str(made.bundle)])
    config = (ROOT / "configs" / "tiny.yml").read_text()
    (made.bundle / commands.CONFIG).write_text(config + ON_CPU)
    shutil.copytree(made.bundle / "tiny" / "adapter", root / ADAPTER.path)
    (root / "output").mkdir()
    shutil.copytree(
        commands.worker_source("x").parent,
        root / commands.WORKERS,
        ignore=shutil.ignore_patterns("__*"),
    )
    return made


def plain(text: str) -> str:
    """Without special tokens, and without the marks of half a character before one."""
    for token in TOKENS:
        text = text.replace(token, "")
    return text.replace("\ufffd", "").strip()


def test_the_worker_answers_as_axolotls_own_inference_does(job: Job) -> None:
    prompts = ["What colour is the fox?", "x", "Say which of all animals\nis grey, and why. " * 4]
    rows: list[object] = [{"prompt": text, "id": n} for n, text in enumerate(prompts)]
    lines = [json.dumps(row) for row in rows]
    lines.insert(1, '{"prompt": "broken')
    (job.root / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))
    printed = job.run(
        job.argv(
            commands.answer_prompts(
                prompts=RunPath("prompts.jsonl"),
                answers=RunPath("output/answers.jsonl"),
                adapter=ADAPTER,
                decoding=Decoding(max_new_tokens=NEW_TOKENS, batch_size=3),
            )
        )
    )
    assert "answered 4/4" in printed
    lines = (job.root / "output/answers.jsonl").read_text().split("\n")[:-1]
    said = [json.loads(line) for line in lines]
    assert "line 2 is not JSON" in said.pop(1)["error"]
    assert [row["id"] for row in said] == [0, 1, 2]

    real = job.argv(commands.inference(target=CPU, adapter=ADAPTER))
    arguments = real[real.index("axolotl.cli.inference") + 1 :]
    log = job.run([str(job.python), "-c", GREEDY, json.dumps([prompts, NEW_TOKENS]), *arguments])
    blocks = log.split(ASKS)[1:4]
    axolotls = [
        extract_answer(f"{ASKS}{block}{ASKS}", prompt)
        for block, prompt in zip(blocks, prompts, strict=True)
    ]
    assert [plain(row["answer"]) for row in said] == [plain(answer) for answer in axolotls]
    assert all(len(set(plain(answer))) > 10 for answer in axolotls)  # it says something, too


def test_the_base_model_answers_otherwise_and_a_second_run_goes_on(job: Job) -> None:
    rows = [{"prompt": f"What colour is the {name}?"} for name in ("ant", "bee", "fox")]
    (job.root / "ask.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = commands.answer_prompts(
        prompts=RunPath("ask.jsonl"),
        answers=RunPath("output/base.jsonl"),
        base=True,
        decoding=Decoding(max_new_tokens=8),
    )
    begun = json.dumps({**rows[0], "answer": "from before"}) + "\n"
    (job.root / "output/base.jsonl").write_text(begun + '{"prompt": "What co')
    printed = job.run(job.argv(command))
    assert '"lora_model_dir"' not in printed  # axolotl shows the config it runs with
    said = (job.root / "output/base.jsonl").read_text().split("\n")[:-1]
    assert said[0] == begun.strip()
    assert [json.loads(line)["prompt"] for line in said] == [row["prompt"] for row in rows]


def test_the_ends_of_all_chat_templates_are_known(job: Job) -> None:
    printed = job.run([str(job.python), "-c", ENDINGS])
    texts = json.loads(printed.strip().splitlines()[-1])
    assert len(texts) > 20
    for name, text in texts.items():
        said = text.replace("QUESTION", "how?") + "ANSWER</s>"
        log = f"{ASKS}{RULE}\n{said}\n{RULE}\n{said}\n{ASKS}"
        answer = extract_answer(log, "how?")
        assert answer.removeprefix("<think>").strip() == "ANSWER", name
        assert extract_answer(log).removeprefix("<think>").strip() == "ANSWER", name


def test_merge_reads_the_adapter_in_place_and_writes_into_its_own_output(job: Job) -> None:
    adapter = job.root / ADAPTER.path
    before = {path.name: path.stat().st_mtime_ns for path in adapter.iterdir()}
    job.run(job.argv(commands.merge(adapter=ADAPTER, output=RunPath("output"))))
    assert (job.root / "output/merged/model.safetensors").is_file()
    assert (job.root / "output/merged/tokenizer_config.json").is_file()
    assert {path.name: path.stat().st_mtime_ns for path in adapter.iterdir()} == before


def test_a_chat_over_the_terminal_bridge(job: Job) -> None:
    port = idle_guard.free_port()
    chat = commands.inference(target=CPU, adapter=ADAPTER, mode="chat")
    argv = job.argv(commands.serve_terminal(chat, port=port, idle_seconds=int(PATIENCE)))
    typed, shown = job.root / "typed", job.root / "shown"
    typed.write_text("/set max_new_tokens 5\nWhat colour is the fox?\n/status\n/quit\n")
    with job.start(argv, {commands.TOKEN_VARIABLE: "secret"}) as (process, log):
        with typed.open("rb") as keys, shown.open("wb") as screen:
            code = terminal.attach(
                Address("127.0.0.1", port),
                "secret",
                stdin=keys.fileno(),
                stdout=screen.fileno(),
                patience=timedelta(seconds=PATIENCE),
            )
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.read_text(errors="replace"))
        assert (code, process.wait(PATIENCE)) == (0, 0), text[-3000:] + log()
    assert "axolotl chat" in text
    assert re.search(r"adapter: *lora from", text)
    assert re.search(r"[1-5] tokens", text)


def test_a_page_that_stays_at_home(job: Job) -> None:
    port = idle_guard.free_port()
    page = commands.inference(target=CPU, adapter=ADAPTER, mode="gradio")
    argv = job.argv(commands.guard_idle(page, port=port, idle_seconds=int(PATIENCE)))
    with job.start(argv) as (process, log):
        end = time.monotonic() + PATIENCE
        while (status := asked(port)) is None:
            assert process.poll() is None, log()[-5000:]
            assert time.monotonic() < end, log()[-5000:]
            time.sleep(1)
        assert status == 200
        text = log()
        assert "Running on local URL:  http://127.0.0.1:" in text
        assert "gradio.live" not in text
        assert "public URL" not in text.replace("To create a public link", "")
        assert '"gradio_share": false' in text  # though the config says `strict: true`
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM


def asked(port: int) -> int | None:
    """The page's HTTP status; None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply:
            return int(reply.status)
    except (urllib.error.URLError, OSError):
        return None
