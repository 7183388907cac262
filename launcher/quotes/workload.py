"""What a recipe asks of a GPU: the model's shape, the way to train it, and how many tokens.

Tokens are those that `counting` counted before; else they come from bytes, and the quote says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from backends.errors import BadInput, Refused
from launcher.estimate import Setup, Shape, setup_of, shapes
from launcher.quotes import counting, in_bytes, schedule
from launcher.quotes.rows import Counted, Data, fed
from launcher.quotes.schedule import Schedule
from launcher.recipe import Recipe, references
from launcher.recipe.references import Fate, Kind


@dataclass(frozen=True)
class Workload:
    """What is to be done. `data` is None where nobody can tell how much there is."""

    shape: Shape
    setup: Setup
    data: Data | None
    schedule: Schedule
    merges: bool
    why_no_data: str = ""
    eval_tokens: int = 0
    """Of one evaluation, padding included."""

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
    try:
        planned = schedule.of(config)
    except BadInput as error:
        raise Refused(error.message, hint=error.hint) from error
    found = shape or shape_of(recipe)
    data, why = _data(recipe, setup, tokens)
    data, evaluated = _held_out(recipe, setup, data, planned)
    return Workload(
        shape=found,
        setup=setup,
        data=data,
        schedule=planned,
        merges=recipe.launch.steps.merge and setup.adapted,
        why_no_data=why,
        eval_tokens=evaluated,
    )


def shape_of(recipe: Recipe) -> Shape:
    """A model that lies here says its own shape; another one is looked up. Raises BadInput."""
    name = str(recipe.config.get("base_model") or "")
    if not name:
        raise BadInput("the recipe names no base_model", hint="add one: base_model: ORG/NAME")
    if has_model(recipe):
        return shapes.from_config_file(recipe.base_dir / name / "config.json")
    return shapes.find(name)


def has_model(recipe: Recipe) -> bool:
    """Whether the base model lies here, so that no hub is asked for it."""
    try:
        return (recipe.base_dir / str(recipe.config.get("base_model")) / "config.json").is_file()
    except OSError:  # what cannot be a path at all
        return False


def _held_out(
    recipe: Recipe, setup: Setup, data: Data | None, planned: Schedule
) -> tuple[Data | None, int]:
    """What is left to train on, and the tokens of one evaluation."""
    if recipe.config.get("test_datasets"):
        found = _sets_in_bytes(recipe, setup, ("test_datasets",))
        given = [] if isinstance(found, str) else found
        return data, fed(given, setup, in_bytes.HOW).tokens if given else 0
    if data is None:
        return None, 0
    share = planned.share_held_out(data.rows)
    evaluated = round(data.tokens * share)
    kept = replace(data, rows=round(data.rows * (1 - share)), tokens=data.tokens - evaluated)
    return kept, evaluated


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
    sets = _sets_in_bytes(recipe, setup, ("datasets", "pretraining_dataset"))
    if isinstance(sets, str):
        return None, f"{sets} ({why})" if "cannot be counted" in sets else sets
    if not sets:
        return None, "the recipe names no data that lie here"
    return fed(sets, setup, f"{in_bytes.HOW}; {why}"), ""


def _sets_in_bytes(recipe: Recipe, setup: Setup, keys: tuple[str, ...]) -> list[Counted] | str:
    """The data sets of some keys; a sentence where one is not here, or cannot be read."""
    sets: list[Counted] = []
    for ref in references.find(recipe.config, recipe.base_dir):
        if ref.kind is not Kind.DATA or ref.key[0] not in keys:
            continue
        if ref.fate is not Fate.LOCAL:
            return f"the data {ref.text} are not on this computer"
        for path in ref.paths:
            found = in_bytes.counted(path, pairs=setup.rows_per_sample > 1)
            if isinstance(found, str):
                return found
            sets += found
    return sets
