"""Measure a grid of small trainings on the GPU of this machine, a row each.

    PYTHON-WITH-TORCH benchmarks/gpu_grid.py trainer|axolotl INTO [--minutes M] [--only TEXT]

`trainer`: transformers' Trainer and PEFT, the libraries of that Python. `axolotl`: the axolotl of
that Python, its own command line. Each point is a process of its own: what one leaves on the GPU
must not count for the next. Models have the shape of the ones
they are named for and random weights: what is computed and kept is the same. Every row of data is
exactly as long as `seq_len`, so that tokens are known.

Writes INTO/memory.csv and INTO/throughput.csv after every point, with the columns of the tables in
data/; what is out of memory gets a row with `fits` 0. Needs nothing but the standard library
besides what trains, so that it runs where ftlaunch is not installed.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
LINEARS = "q_proj+k_proj+v_proj+o_proj+gate_proj+up_proj+down_proj"
GIB = 2**30


@dataclass(frozen=True)
class Point:
    """One training of the grid.

    model        a row of launcher/estimate/tables/shapes.csv
    method       full, lora or qlora (nf4, double quantisation)
    tokens       of a row of data
    batch        rows of a micro batch
    accumulate   micro batches of a step
    checkpoint   whether activations are computed again in the backward pass
    liger        whether Liger's kernels stand in for the model's
    """

    model: str
    method: str
    tokens: int
    batch: int
    accumulate: int = 1
    checkpoint: bool = True
    liger: bool = False
    optimizer: str = "adamw_torch_fused"
    rank: int = 16
    targets: str = LINEARS

    @property
    def name(self) -> str:
        """Short, for a person."""
        marks = [f"{self.tokens}x{self.batch}"]
        marks += [f"ga{self.accumulate}"] * (self.accumulate > 1)
        marks += ["no-ckpt"] * (not self.checkpoint) + ["liger"] * self.liger
        marks += [self.optimizer] * (self.optimizer != "adamw_torch_fused")
        marks += [f"r{self.rank}"] * (self.rank != 16)
        return f"{self.model.split('/')[-1]} {self.method} {' '.join(marks)}"


@dataclass
class Outcome:
    """What was measured; GiB and seconds. `steps_s` holds each timed optimizer step."""

    fits: bool = True
    alloc: float = 0.0
    reserved: float = 0.0
    device: float = 0.0
    steps_s: list[float] = field(default_factory=list)
    notes: str = ""


_1B, _3B, _8B = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.1-8B"
_7B, _TINY, _Q7B = (
    "mistralai/Mistral-7B-v0.3",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "Qwen/Qwen2.5-7B",
)


def trainer_points() -> list[Point]:
    """The grid of `trainer`, in the order of their use: a cut-off run has the better half."""
    lora = [
        *(Point(_1B, "lora", n, b) for n, b in [(1024, 4), (2048, 4), (4096, 2), (8192, 1)]),
        *(Point(_3B, "lora", n, b) for n, b in [(1024, 4), (2048, 2), (4096, 2), (8192, 1)]),
        *(
            Point(_8B, "lora", n, b)
            for n, b in [(1024, 1), (1024, 4), (2048, 2), (4096, 1), (8192, 1)]
        ),
    ]
    full = [
        *(Point(_1B, "full", n, b) for n, b in [(1024, 4), (2048, 4), (8192, 1)]),
        *(Point(_3B, "full", n, b) for n, b in [(1024, 4), (4096, 1)]),
        Point(_1B, "full", 2048, 4, optimizer="adamw_bnb_8bit"),
        Point(_8B, "full", 1024, 1, optimizer="paged_adamw_8bit"),
        Point(_8B, "full", 4096, 2),  # does not fit
    ]
    qlora = [
        *(Point(_1B, "qlora", n, b) for n, b in [(2048, 4), (8192, 1)]),
        *(Point(_3B, "qlora", n, b) for n, b in [(2048, 4), (4096, 1)]),
        *(Point(_8B, "qlora", n, b) for n, b in [(1024, 1), (2048, 2), (4096, 2), (8192, 1)]),
    ]
    plain = [
        *(Point(_1B, "lora", n, b, checkpoint=False) for n, b in [(1024, 4), (4096, 1)]),
        Point(_3B, "lora", 2048, 2, checkpoint=False),
        *(Point(_8B, "lora", n, b, checkpoint=False) for n, b in [(1024, 1), (2048, 1), (8192, 2)]),
        Point(_8B, "qlora", 2048, 1, checkpoint=False),
        Point(_1B, "full", 2048, 2, checkpoint=False),
    ]
    others = [
        Point(_7B, "lora", 2048, 2),
        Point(_7B, "qlora", 4096, 1),
        Point(_TINY, "lora", 2048, 4),
        Point(_TINY, "full", 2048, 4),
        Point(_8B, "lora", 2048, 1, accumulate=4),
        Point(_1B, "full", 2048, 1, accumulate=4),
        Point(_8B, "lora", 2048, 2, rank=64),
        Point(_8B, "lora", 2048, 2, rank=8, targets="q_proj+v_proj"),
        Point(_8B, "lora", 2048, 8),
        Point(_1B, "lora", 2048, 16),
        Point(_Q7B, "lora", 2048, 2),
        Point(_Q7B, "qlora", 4096, 1),
    ]
    liger = [
        replace(point, liger=True)
        for point in [
            Point(_1B, "lora", 2048, 4),
            Point(_1B, "full", 2048, 4),
            Point(_3B, "lora", 4096, 2),
            Point(_8B, "lora", 2048, 2),
            Point(_8B, "lora", 8192, 2),
            Point(_8B, "qlora", 4096, 2),
            Point(_8B, "lora", 2048, 2, checkpoint=False),
            Point(_Q7B, "lora", 4096, 2),
        ]
    ]
    return [*lora, *full, *qlora, *plain, *others, *liger]


def axolotl_points() -> list[Point]:
    """The grid of `axolotl`: a process each, so few."""
    return [
        Point(_1B, "lora", 2048, 4),
        Point(_8B, "lora", 2048, 2),
        Point(_8B, "qlora", 4096, 1),
        Point(_1B, "full", 2048, 4),
        Point(_8B, "lora", 4096, 2, liger=True),
        Point(_8B, "lora", 2048, 2, checkpoint=False),
        Point(_3B, "qlora", 2048, 4),
        Point(_1B, "lora", 8192, 1, accumulate=4),
    ]


def shape_of(model: str) -> dict[str, str]:
    """A row of the bundled table of shapes; KeyError where there is none."""
    with (ROOT / "launcher/estimate/tables/shapes.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if row["hf_id"] == model:
                return row
    raise KeyError(model)


def config_of(model: str, **changes: Any) -> dict[str, Any]:
    """The config.json of a model of this shape, as transformers reads it."""
    shape = shape_of(model)
    kind = "qwen2" if "Qwen" in model else "mistral" if "Mistral" in model else "llama"
    name = {"qwen2": "Qwen2", "mistral": "Mistral", "llama": "Llama"}[kind]
    config: dict[str, Any] = {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": kind,
        "hidden_size": int(shape["hidden"]),
        "intermediate_size": int(shape["intermediate"]),
        "num_hidden_layers": int(shape["layers"]),
        "num_attention_heads": int(shape["heads"]),
        "num_key_value_heads": int(shape["kv_heads"]),
        "vocab_size": int(shape["vocab"]),
        "tie_word_embeddings": shape["tied"] == "1",
        "max_position_embeddings": 131072,
        "use_cache": False,
    }
    if kind == "mistral":
        config["sliding_window"] = None  # as in v0.3; a window would be a mask, and slow
    if kind != "qwen2":
        config["head_dim"] = int(shape["head_dim"])
    return config | changes


class Tables:
    """The two tables, kept on disk after every point."""

    def __init__(self, into: Path, group: str, source: str, card: str, prefix: str) -> None:
        into.mkdir(parents=True, exist_ok=True)
        self._into, self._group, self._source, self._card = into, group, source, card
        self._prefix = prefix
        self._memory: list[dict[str, Any]] = []
        self._speed: list[dict[str, Any]] = []

    def add(self, point: Point, outcome: Outcome) -> None:
        """A point's rows: one of each metric of memory, one of speed."""
        common = self._common(point)
        rest = {"dataset": "random tokens", "quality": "A", "notes": outcome.notes, "scored": "1"}
        if outcome.fits:
            for metric in ("alloc", "reserved", "device"):
                if (peak := getattr(outcome, metric)) <= 0:
                    continue
                self._memory.append(
                    common
                    | rest
                    | {
                        "row_id": f"{self._prefix}m{len(self._memory):03d}",
                        "peak_gib_per_gpu": f"{peak:.3f}",
                        "metric": "nvml" if metric == "device" else metric,
                        "peak_device_gib": f"{outcome.device:.3f}" if outcome.device else "",
                        "fits": "1",
                    }
                )
        else:
            row_id = f"{self._prefix}m{len(self._memory):03d}"
            self._memory.append(common | rest | {"row_id": row_id, "fits": "0"})
        if outcome.steps_s:
            step = sorted(outcome.steps_s)[len(outcome.steps_s) // 2]
            tokens = point.tokens * point.batch * point.accumulate
            self._speed.append(
                common
                | rest
                | {
                    "row_id": f"{self._prefix}t{len(self._speed):03d}",
                    "tokens_per_s_per_gpu": f"{tokens / step:.1f}",
                    "step_time_s": f"{step:.4f}",
                }
            )
        self._write("memory.csv", "memory_dev.csv", self._memory)
        self._write("throughput.csv", "throughput_dev.csv", self._speed)

    def _common(self, point: Point) -> dict[str, Any]:
        shape = shape_of(point.model)
        adapter = point.method != "full"
        return {
            "group": self._group,
            "source": self._source,
            "split": "dev",
            "model": point.model,
            "params_b": shape["params_b"],
            "method": point.method,
            "lora_r": point.rank if adapter else "",
            "lora_targets": point.targets if adapter else "",
            "base_quant": "nf4dq" if point.method == "qlora" else "none",
            "seq_len": point.tokens,
            "micro_batch": point.batch,
            "grad_accum": point.accumulate,
            "packing": 0,
            "grad_ckpt": int(point.checkpoint),
            "optimizer": point.optimizer,
            "precision": "bf16",
            "parallelism": "none",
            "num_gpus": 1,
            "gpu": self._card,
            "attn": "sdpa",
            "liger": int(point.liger),
            "compile": 0,
        }

    def _write(self, name: str, like: str, rows: list[dict[str, Any]]) -> None:
        with (ROOT / "benchmarks" / "data" / like).open(encoding="utf-8", newline="") as published:
            columns = next(csv.reader(published))
        with (self._into / name).open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


T = TypeVar("T")


def aside(work: Callable[..., T], *arguments: Any) -> T:
    """Do it in a process of its own: this one must hold nothing of the GPU while another trains."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        return pool.submit(work, *arguments).result()


def card() -> str:
    """The GPU's name as launcher/gpus names it."""
    import torch  # noqa: PLC0415 - the points are listed without it

    if not torch.cuda.is_available():
        return "none"
    name = torch.cuda.get_device_name()
    for mark, known in {
        "H200": "H200",
        "H100 80GB HBM3": "H100-SXM",
        "H100 PCIe": "H100-PCIe",
        "A100": "A100-80GB",
        "L4": "L4",
    }.items():
        if mark in name:
            return known
    return str(name)


def _measure(what: str) -> Callable[[Point, bool], Outcome]:
    if what == "trainer":
        from benchmarks import gpu_trainer  # noqa: PLC0415 - each has its own libraries

        return gpu_trainer.measure
    from benchmarks import gpu_axolotl  # noqa: PLC0415

    return gpu_axolotl.measure


def main() -> int:
    """Measure until the grid or the minutes are through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("trainer", "axolotl"))
    parser.add_argument("into", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--small", action="store_true", help="small shapes, to try this script")
    parser.add_argument("--list", action="store_true")
    wanted = parser.parse_args()
    points = trainer_points() if wanted.what == "trainer" else axolotl_points()
    points = [point for point in points if wanted.only in point.name]
    if wanted.list:
        print("\n".join(point.name for point in points))
        return 0
    sys.path.insert(0, str(ROOT))
    measure = _measure(wanted.what)
    own = {"trainer": "liger-kernel", "axolotl": "axolotl"}[wanted.what]
    libraries = (own, "torch", "transformers", "peft", "bitsandbytes")
    versions = " ".join(f"{name} {version(name)}" for name in libraries)
    source = f"benchmarks/gpu_grid.py {wanted.what}: {versions}, Python {platform.python_version()}"
    tables = Tables(wanted.into, f"own-{wanted.what}", source, gpu := aside(card), wanted.what[0])
    print(source, gpu, flush=True)
    until = time.monotonic() + 60 * wanted.minutes
    for number, point in enumerate(points):
        if time.monotonic() > until:
            print(f"time is up after {number} of {len(points)}", flush=True)
            break
        began = time.monotonic()
        try:
            outcome = aside(measure, point, wanted.small)
        except Exception as error:  # noqa: BLE001 - one point must not cost the others
            print(f"{point.name}: FAILED {type(error).__name__}: {error}", flush=True)
            continue
        tables.add(point, outcome)
        told = {name: value for name, value in asdict(outcome).items() if name != "steps_s"}
        steps = [round(one, 4) for one in outcome.steps_s]
        print(f"{point.name}: {told} {steps} [{time.monotonic() - began:.1f} s]", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
