"""`ftlaunch inference`: ask a run's model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from launcher.cli import options


@click.command()
@options.run_argument
@click.option("-p", "--prompt", help="One prompt; `-` reads it from standard input.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help='A JSONL file, {"prompt": …} a row; needs -o.',
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the answers go; needed with --prompts.",
)
@options.backend
@options.gpu
@click.option("--chat", is_flag=True, help="Talk to it in this terminal.")
@click.option("--gradio", is_flag=True, help="A web page on this machine; no public link.")
@click.option("--base", is_flag=True, help="Ask the base model, as it was before training.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="For --prompts; an answer is cut off after this many.",
)
@click.option(
    "--repetition-penalty",
    type=click.FloatRange(min=0.01),
    default=1.1,
    show_default=True,
    help="For --prompts; the default is axolotl's.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="For --prompts; 0 takes the likeliest word each time.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="For --prompts; how many are answered at once.",
)
@click.option(
    "--idle",
    type=options.Duration(),
    default="15m",
    show_default=True,
    help="--chat and --gradio end when nobody has used them for this long.",
)
@options.yes
@options.as_json
def inference(
    run: str | None,
    prompt: str | None,
    prompts: Path | None,
    output: Path | None,
    backend: str | None,
    gpus: tuple[tuple[str, int], ...],
    chat: bool,
    gradio: bool,
    base: bool,
    max_new_tokens: int,
    repetition_penalty: float,
    temperature: float,
    batch_size: int,
    idle: object,
    yes: bool,
    as_json: bool,
) -> int:
    """Ask RUN's model (default: the last run's)."""
    from datetime import timedelta

    from backends.errors import BadInput
    from launcher import asking, commands, places, questions
    from launcher.cli import following, session
    from launcher.cli.agreeing import agree
    from launcher.cli.facts import find
    from launcher.run.pull import check_writable
    from launcher.store import open_store

    if [prompt is not None, prompts is not None, chat, gradio].count(True) != 1:
        raise click.UsageError("give one of -p TEXT, --prompts FILE, --chat and --gradio")
    _require_together(prompts, output)
    text = sys.stdin.read() if prompt == "-" else prompt
    if text is not None and not text.strip():
        raise BadInput("the prompt is empty")
    asked = None if prompts is None else questions.read(prompts)
    if asked is not None and prompts is not None and output is not None:
        if output.resolve() == prompts.resolve():
            raise BadInput("-o names the file of prompts", hint="write the answers to another")
        check_writable(output.absolute().parent)
        for bad in asked.bad:
            click.echo(f"warning: {prompts}: {bad}; it gets no answer", err=True)
    store = open_store(places.state_dir())
    found = find(store, run)
    asker = asking.asker(
        store,
        found,
        base=base,
        backend=backend,
        gpus=gpus,
        progress=following.start_up(quiet=as_json),
    )
    agree(asker.there, yes=yes, quiet=as_json)
    progress = None if as_json else lambda text: click.echo(f"  {text}", err=True)
    if text is not None:
        return session.print_answer(asker, text, progress=progress, as_json=as_json)
    if asked is not None and output is not None:
        decoding = commands.Decoding(
            max_new_tokens=max_new_tokens,
            repetition_penalty=repetition_penalty,
            temperature=temperature,
            batch_size=batch_size,
        )
        return session.write_answers(
            asker, asked.content, output, decoding=decoding, progress=progress, as_json=as_json
        )
    seconds = int(idle.total_seconds()) if isinstance(idle, timedelta) else 900
    if chat:
        return session.chat(asker, idle_seconds=seconds, progress=progress)
    return session.page(asker, idle_seconds=seconds, progress=progress)


_DECODING = ("max_new_tokens", "repetition_penalty", "temperature", "batch_size")


def _require_together(prompts: Path | None, output: Path | None) -> None:
    """What is for a file of prompts only is refused for anything else."""
    if (prompts is None) != (output is None):
        raise click.UsageError("--prompts FILE and -o FILE go together")
    context = click.get_current_context()
    for name in _DECODING:
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if prompts is None and given:  # axolotl answers the others with settings of its own
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for --prompts; axolotl answers the others with "
                "settings of its own"
            )
