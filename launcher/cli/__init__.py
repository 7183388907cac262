"""The command line: it parses, calls a use case, and prints. No work is done here.

`ftlaunch --help` and tab completion must start in a blink, so a command's module is imported only
when the command runs; the table below holds what `--help` needs.
"""

from __future__ import annotations

import importlib

import click

from launcher import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("launcher.cli.train", "Train a recipe: preprocess, train, merge, pull, let go."),
    "preprocess": ("launcher.cli.train", "Only tokenise a recipe's data, to look at the result."),
    "merge": ("launcher.cli.jobs", "Merge a run's adapter into its base model."),
    "evaluate": ("launcher.cli.jobs", "Run the recipe's own evaluation on a run's model."),
    "inference": ("launcher.cli.inference", "Ask a run's model: one prompt, a file, chat, Gradio."),
    "resume": ("launcher.cli.jobs", "Go on from a run's newest complete checkpoint."),
    "ps": ("launcher.cli.runs", "List runs that are alive (-a: all)."),
    "logs": ("launcher.cli.logs", "Show a run's log."),
    "inspect": ("launcher.cli.inspect", "Show everything known about a run."),
    "wait": ("launcher.cli.runs", "Wait for a run's end; exits with its verdict."),
    "stop": ("launcher.cli.runs", "Stop a run, keeping a checkpoint."),
    "pull": ("launcher.cli.runs", "Bring a run's results here, verified."),
    "rm": ("launcher.cli.runs", "Forget a run and remove what is kept for it."),
    "recipes": ("launcher.cli.recipes", "List, show or copy the bundled recipes."),
    "estimate": ("launcher.cli.estimate", "Say what a recipe would cost, on every offer there is."),
    "calibrate": ("launcher.cli.calibrate", "Run a few steps of a recipe to measure a GPU."),
    "prices": ("launcher.cli.prices", "Show the price lists kept here, and ask for them anew."),
    "validate": ("launcher.cli.validate", "Look for mistakes in a recipe and its data."),
    "migrate": ("launcher.cli.migrate", "Bring a recipe of 2024 to the axolotl of today."),
    "env": ("launcher.cli.env", "Show, make or remove the managed axolotl environment."),
    "check": ("launcher.cli.check", "Say whether this machine and each backend are ready."),
    "completion": ("launcher.cli.completion", "Print the line that turns on tab completion."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: the main job first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that is wanted."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = getattr(module, cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the command that was meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(name, COMMANDS, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help page's list, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: ftlaunch train quickstart",
)
@click.version_option(__version__, prog_name="ftlaunch")
@click.option("--debug", is_flag=True, help="Show a traceback when something goes wrong.")
def cli(debug: bool) -> None:
    """Fine-tune an LLM from an axolotl recipe, here or on a rented GPU, and keep the result."""
