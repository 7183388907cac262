"""The live view: one line that moves, above it what has happened."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from launcher.cli.telling import LAST_LINES, QUIET_EVENTS, tell_event
from launcher.metrics import Reading
from launcher.run.follow import Said

if TYPE_CHECKING:
    from launcher.run.logs import Line
    from launcher.store import Event


BAD = {False: "", True: "red"}


class Live:
    """A progress bar with loss and speed; events scroll above it."""

    def __init__(self, *, logs: bool) -> None:
        self._logs = logs
        self._console = Console()
        self._last: deque[Line] = deque(maxlen=LAST_LINES)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._reading = Reading()

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing and leave the terminal as it was."""
        self._progress.stop()

    def show(self, said: Said) -> None:
        """Take in one thing."""
        if said.line is not None:
            self._last.append(said.line)
            self._on_step(said.line.step)
            if self._logs:
                self._echo(said.line.text)
        elif said.metrics is not None:
            self._on_metrics(said.metrics)
        elif said.event is not None:
            self._on_event(said.event)

    def _on_step(self, step: str) -> None:
        if self._task is None or self._progress.tasks[0].description != step:
            self._clear()
            self._reading = Reading()
            self._task = self._progress.add_task(step, total=None, figures="")

    def _on_metrics(self, metrics: dict[str, Any]) -> None:
        self._reading.take(metrics)
        if self._task is not None:
            self._progress.update(
                self._task,
                total=self._reading.total,
                completed=self._reading.step,
                figures=self._reading.figures(),
            )

    def _on_event(self, event: Event) -> None:
        if event.kind == "ended":
            self._clear()
        if event.kind == "progress":
            self._on_transfer(event)
        elif event.kind not in QUIET_EVENTS:
            tell_event(event, self._last, shown=self._logs, echo=self._echo)
        if event.kind == "launched":
            self._last.clear()

    def _echo(self, text: str, bad: bool = False) -> None:
        """Above the moving line; whatever else wrote to the terminal would tear it."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style=BAD[bad])

    def _on_transfer(self, event: Event) -> None:
        if self._task is None or self._progress.tasks[0].description != event.text:
            self._clear()
            self._task = self._progress.add_task(event.text, total=None, figures="")
        self._progress.update(
            self._task, completed=event.data.get("done") or 0, total=event.data.get("total")
        )

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
