"""Keys and links that would get out: what stands in a config is written down in many places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from launcher.preflight.problem import Look, Problem
from launcher.recipe.keypath import KeyPath, spell
from launcher.wording import shown

_SHAPES = (
    (re.compile(r"\bhf_[A-Za-z0-9]{20,}\b"), "a Hugging Face token", "HF_TOKEN"),
    (re.compile(r"\bsk-ant-[A-Za-z0-9_-]{16,}"), "an Anthropic key", "ANTHROPIC_API_KEY"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), "an OpenAI key", "OPENAI_API_KEY"),
    (re.compile(r"\bwandb_v\d_[A-Za-z0-9_]{20,}"), "a Weights & Biases key", "WANDB_API_KEY"),
    (re.compile(r"\b(ghp|gho)_[A-Za-z0-9]{20,}\b"), "a GitHub token", "GITHUB_TOKEN"),
    (re.compile(r"\bgithub_pat_[A-Za-z0-9_]{20,}\b"), "a GitHub token", "GITHUB_TOKEN"),
    (re.compile(r"\bAKIA[A-Z0-9]{16}\b"), "an AWS key", "AWS_ACCESS_KEY_ID"),
)
_KEY_NAME = re.compile(r"(.*_)?(api_key|auth_token|access_token|secret|password|hf_token|token)")
_HEX = re.compile(r"[0-9a-f]{32,}")


def embedded_keys(look: Look) -> Iterator[Problem]:
    """Keys of services that stand in the config itself; what they are is never shown."""
    for at, text in _texts(look.config, ()):
        if (found := _what(at, text)) is None:
            continue
        kind, name = found
        yield look.error(
            at,
            f"{spell(at)} holds {kind}: axolotl writes its config into the log, and it goes where "
            "the results go",
            f"remove it (and make a new one, if this file was shared), set {name} in your terminal "
            f"and add `-s {name}`",
        )


def _what(at: KeyPath, text: str) -> tuple[str, str] | None:
    for shape, kind, name in _SHAPES:
        if shape.search(text):
            return kind, name
    named = _KEY_NAME.fullmatch(str(at[-1]).lower())
    if named and text and not text.startswith("<"):
        service = str(at[-1]).upper()
        looks = _HEX.fullmatch(text) or named[2] in {"api_key", "password", "secret"}
        return ("a key", service) if looks else None
    return None


def _texts(value: Any, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        if at:
            yield at, value
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _texts(each, (*at, index))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, (*at, str(key)))


def public_page(look: Look) -> Iterator[Problem]:
    """A Gradio page for everybody."""
    if look.config.get("gradio_share") is True:
        yield look.warning(
            ("gradio_share",),
            "gradio_share: true puts the model on a public address of Gradio's; ftlaunch serves it "
            "to this machine only, whatever stands here",
            "remove it, and use: ftlaunch inference RUN --gradio",
        )


def output_elsewhere(look: Look) -> Iterator[Problem]:
    """An `output_dir` that is nowhere in the run's directory."""
    text = look.config.get("output_dir")
    if not isinstance(text, str):
        return
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or text.startswith("~"):
        yield look.warning(
            ("output_dir",),
            f"output_dir {shown(text)} lies outside the run's directory, where axolotl would leave "
            "the results behind; ftlaunch puts them into runs/NAME in any case",
            "say output_dir: ./outputs, or choose the place with: ftlaunch train -o FOLDER",
        )
