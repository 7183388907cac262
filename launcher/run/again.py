"""The command that begins a run anew, as it was begun."""

from __future__ import annotations

import shlex

from launcher.run.spec import run_from_json
from launcher.store import RunRecord, Store


def train_again(store: Store, run: RunRecord, *, backend: str | None = None) -> str:
    """`ftlaunch train RECIPE -b … -g …`, to be pasted.

    backend  another one than the run's, where its GPUs may have other names: none is named then
    """
    words = ["ftlaunch", "train", run.recipe, "-b", backend or run.backend]
    need = run_from_json(store.run_spec(run.id)).need
    if backend in {None, run.backend} and need is not None:
        kinds = [kind if count == 1 else f"{kind}:{count}" for kind, count in need.gpus]
        if need.cpu_only:
            kinds = ["cpu"]
        words += ["-g", ",".join(kinds)] if kinds else []
    return shlex.join(words)
