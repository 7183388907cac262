"""A small real trainer on torch.distributed: run as a module, by `accelerate launch` or alone.

    ... -m ddp_trainer --steps 20 --batch 16 [--fails-at STEP]

What it learns does not depend on how many processes share a batch. The first one prints the loss of
each step, as a mean over the whole batch, and writes them to output/losses.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROWS, WIDTH = 256, 16


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--steps", type=int, required=True)
    asked.add_argument("--batch", type=int, required=True)
    asked.add_argument("--fails-at", type=int, default=-1)
    given = asked.parse_args()
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch.manual_seed(7)
    torch.set_num_threads(1)
    data = torch.randn(ROWS, WIDTH)
    target = data @ torch.randn(WIDTH, 1) / WIDTH**0.5
    inner = nn.Sequential(nn.Linear(WIDTH, 32), nn.Tanh(), nn.Linear(32, 1))
    model: nn.Module = inner
    if world > 1:
        dist.init_process_group("gloo")
        model = DistributedDataParallel(inner)
    print(f"process {rank} of {world}", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for step in range(given.steps):
        if step == given.fails_at and rank == world - 1:
            sys.exit(9)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(step))
        mine = order[: given.batch][rank::world]
        loss = nn.functional.mse_loss(model(data[mine]), target[mine])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        whole = loss.detach().clone()
        if world > 1:
            dist.all_reduce(whole)
            whole /= world
        losses.append(whole.item())
        if rank == 0:
            print(f"loss: {whole.item():.6f}", flush=True)
    if rank == 0:
        there = Path(os.environ["FTLAUNCH_RUN_DIR"]) / "output"
        there.mkdir(exist_ok=True)
        (there / "losses.json").write_text(json.dumps(losses))
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
