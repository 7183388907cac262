"""What `ftlaunch inference` shows: an answer, a file of answers, a chat, a page."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import click

from backends.errors import Failed, FtlaunchError
from backends.lease import Address
from backends.offer import Money
from launcher.asking import Asker
from launcher.commands import Decoding

Say = Callable[[str], None] | None


def print_answer(asker: Asker, text: str, *, progress: Say, as_json: bool) -> int:
    """Print the model's answer to one prompt."""
    answer, trouble, cost = asker.one(text, say=progress)
    if as_json:
        told = {"prompt": text, "answer": answer, **_priced(cost)}
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        click.echo(answer)
        _tell_cost(cost)
    return _unless(trouble)


def write_answers(
    asker: Asker, asked: bytes, output: Path, *, decoding: Decoding, progress: Say, as_json: bool
) -> int:
    """Answer a file of prompts into another."""
    counted, trouble, cost = asker.many(asked, output, decoding=decoding, say=progress)
    if as_json:
        click.echo(json.dumps({**counted._asdict(), "output": str(output), **_priced(cost)}))
        return _unless(trouble)
    click.echo(f"{_number(counted.answers, 'answer')} in {output}")
    _tell_cost(cost)
    if counted.errors:
        rows = _number(counted.errors, "row")
        click.echo(f"{rows} without an answer: see 'error' in the same place there", err=True)
    return _unless(trouble)


def _priced(cost: Money | None) -> dict[str, str]:
    return {} if cost is None else {"cost": str(cost)}


def _tell_cost(cost: Money | None) -> None:
    if cost is not None:
        click.echo(f"  that cost {cost}", err=True)


def _unless(trouble: FtlaunchError | None) -> int:
    """0; raises what went wrong once the answers were here."""
    if trouble is not None:
        raise trouble
    return 0


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def chat(asker: Asker, *, idle_seconds: int, progress: Say) -> int:
    """Talk to the model in this terminal; the job ends with the talk."""
    from launcher import terminal

    with asker.chat(idle_seconds=idle_seconds, say=progress) as (lease, port, token):
        click.echo("  Ctrl-] leaves", err=True)
        with asker.backend.tunnel(lease, port) as address:
            _until(lambda: _listens(address), lambda: asker.alive(lease), "the chat")
            return terminal.attach(address, token)


def page(asker: Asker, *, idle_seconds: int, progress: Say) -> int:
    """Serve the web page until Ctrl-C, or until nobody uses it."""
    with asker.page(idle_seconds=idle_seconds, say=progress) as (lease, port):
        with asker.backend.tunnel(lease, port) as address:
            _until(lambda: _answers(address), lambda: asker.alive(lease), "the page")
            click.echo(f"open http://{address.host}:{address.port}/ (Ctrl-C ends it)")
            try:
                while asker.alive(lease):
                    time.sleep(1)
            except KeyboardInterrupt:
                click.echo("", err=True)
                return 0
        click.echo("nobody used it for a while: it is ended", err=True)
    return 0


def _until(ready: Callable[[], bool], alive: Callable[[], bool], what: str) -> None:
    while not ready():
        if not alive():
            raise Failed(f"{what} ended before it was ready", hint="see: ftlaunch logs")
        time.sleep(0.3)


def _listens(address: Address) -> bool:
    import socket

    try:
        with socket.create_connection((address.host, address.port), timeout=2):
            return True
    except OSError:
        return False


def _answers(address: Address) -> bool:
    try:
        url = f"http://{address.host}:{address.port}/"
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
