"""A recipe whose repositories a loopback hub has: what the online checks say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clouds.hub import Hub, Wandb

from launcher import preflight, recipe
from launcher.preflight import Problem, online

TOKEN = "hf_canaryCANARYcanaryCANARYcanary1234"
KEY = "c0ffee" * 7
RECIPE = """\
base_model: owner/model
learning_rate: 0.0002
datasets:
- path: owner/rows
  type: alpaca
"""


@dataclass
class Asked:
    """Someone's folder and terminal, with a hub and W&B at hand."""

    folder: Path
    hub: Hub
    wandb: Wandb
    terminal: dict[str, str] = field(default_factory=dict)

    def examine(
        self,
        text: str = RECIPE,
        *secrets: str,
        here: bool = False,
        env: Mapping[str, str] | None = None,
        trains: bool = True,
        patience_s: float = 60.0,
    ) -> online.Answered:
        """What is found online in a recipe with this text."""
        (self.folder / "r.yml").write_text(text, "utf-8")
        found = recipe.load("r.yml", cwd=self.folder)
        look = preflight.problem.Look(found, secrets=secrets)
        variables = {
            "HOME": str(self.folder),
            "HF_ENDPOINT": self.hub.url,
            "WANDB_BASE_URL": self.wandb.url,
            **self.terminal,
        }
        launch = {**found.launch.env, **(env or {})}
        run = online.Run(here=here, env=launch, terminal=variables, trains=trains)
        answered = online.examine(look, run, patience_s=patience_s)
        assert TOKEN not in repr(answered)
        assert KEY not in repr(answered)
        return answered

    def only(self, *arguments: str, severity: str = "error", **options: object) -> Problem:
        """The one problem there is."""
        (problem,) = self.examine(*arguments, **options).problems  # type: ignore[arg-type]
        assert problem.severity == severity
        assert problem.fix
        return problem

    def log_in(self) -> None:
        """What `hf auth login` leaves."""
        kept = self.folder / ".cache" / "huggingface" / "token"
        kept.parent.mkdir(parents=True)
        kept.write_text(TOKEN + "\n", "utf-8")


def asked(folder: Path) -> Iterator[Asked]:
    """A hub with one model and one data set, and W&B."""
    with Hub() as hub, Wandb() as wandb:
        hub.add("owner/model")
        hub.add("owner/rows", "dataset")
        yield Asked(folder, hub, wandb)
