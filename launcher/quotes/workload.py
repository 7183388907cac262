"""What a recipe asks of a GPU: the model's shape, the way to train it, and how many tokens.

Tokens are those that `counting` counted before; else they come from bytes, and the quote says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backends.errors import BadInput
from launcher.estimate import Setup, Shape, setup_of, shapes
from launcher.quotes import counting, in_bytes
from launcher.quotes.rows import Counted, Data, fed
from launcher.recipe import Recipe, references
from launcher.recipe.references import Fate, Kind


@dataclass(frozen=True)
class Workload:
    """What is to be done. `data` is None where nobody can tell how much there is."""

    shape: Shape
    setup: Setup
    data: Data | None
    epochs: float
    max_steps: int | None
    evaluations: int
    merges: bool
    why_no_data: str = ""

    @property
    def setup_fed(self) -> Setup:
        """The setup with rows as long as they are fed on average: what time depends on."""
        if self.data is None or self.setup.packing:
            return self.setup
        return self.setup.but(seq_len=max(1, round(self.data.fed)))

    @property
    def setup_longest(self) -> Setup:
        """The setup with rows as long as the longest: what the peak of memory depends on."""
        if self.data is None or self.setup.packing:
            return self.setup
        return self.setup.but(seq_len=max(1, self.data.longest))


def of(recipe: Recipe, *, shape: Shape | None = None, tokens: int | None = None) -> Workload:
    """What a recipe asks for.

    shape   the model's, where neither the table nor a config.json has it
    tokens  of one epoch, where the data are not here
    Raises BadInput for a model whose shape nobody knows, Refused for a config that cannot be
    estimated.
    """
    config = recipe.config
    setup = setup_of(config, base_dir=recipe.base_dir)
    found = shape or shape_of(recipe)
    data, why = _data(recipe, setup, tokens)
    return Workload(
        shape=found,
        setup=setup,
        data=data,
        epochs=float(config.get("num_epochs") or 1),
        max_steps=int(config["max_steps"]) if config.get("max_steps") else None,
        evaluations=_evaluations(config),
        merges=recipe.launch.steps.merge and setup.adapted,
        why_no_data=why,
    )


def shape_of(recipe: Recipe) -> Shape:
    """A model that lies here says its own shape; another one is looked up. Raises BadInput."""
    name = str(recipe.config.get("base_model") or "")
    if not name:
        raise BadInput("the recipe names no base_model", hint="add one: base_model: ORG/NAME")
    local = recipe.base_dir / name / "config.json"
    if local.is_file():
        return shapes.from_config_file(local)
    return shapes.find(name)


def _evaluations(config: dict[str, Any]) -> int:
    """How often the evaluation data are gone through, for each epoch or by number of times."""
    per_epoch = config.get("evals_per_epoch")
    return int(per_epoch) if per_epoch else 1


def _data(recipe: Recipe, setup: Setup, tokens: int | None) -> tuple[Data | None, str]:
    if tokens is not None:
        rows = max(1, tokens // setup.seq_len)
        return Data(rows, tokens, setup.seq_len, setup.seq_len, "the number you gave"), ""
    wanted = counting.of(recipe)
    found = wanted if isinstance(wanted, str) else wanted.known()
    if isinstance(found, list):
        return fed(found, setup, _how(found)), ""
    return _in_bytes(recipe, setup, found or "ftlaunch estimate counts them")


def _how(sets: list[Counted]) -> str:
    looked = sum(len(each.lengths) for each in sets)
    part = f", of {looked:,} rows" if any(each.times > 1 for each in sets) else ""
    return f"counted with the recipe's tokenizer and template{part}"


def _in_bytes(recipe: Recipe, setup: Setup, why: str) -> tuple[Data | None, str]:
    """Data measured by the bytes of their text.

    why  they were not counted
    """
    sets: list[Counted] = []
    for ref in references.find(recipe.config, recipe.base_dir):
        if ref.kind is not Kind.DATA or ref.key[0] not in ("datasets", "pretraining_dataset"):
            continue
        if ref.fate is not Fate.LOCAL:
            return None, f"the data {ref.text} are not on this computer"
        for path in ref.paths:
            found = in_bytes.counted(path, pairs=setup.rows_per_sample > 1)
            if isinstance(found, str):
                return None, f"{found} ({why})"
            sets += found
    if not sets:
        return None, "the recipe names no data that lie here"
    return fed(sets, setup, f"{in_bytes.HOW}; {why}"), ""
