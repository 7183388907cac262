"""What can go wrong between here and a machine that is reached by ssh.

SshError           1   the connection failed, whatever the command would have done
├── NoAnswer       1   nobody answers: refused, timed out, no such name (transient)
├── Denied         1   it answers, and does not let this key in
├── Imposter       1   it shows another host key than before: this may be another machine
└── Broken         1   the connection was lost in the middle (transient)

A command that ran and failed is none of these: its exit code is in what `Host.run` returns.
"""

from __future__ import annotations

from pathlib import Path

from backends.errors import FtlaunchError


class SshError(FtlaunchError):
    """The connection failed; never raised as it is."""


class NoAnswer(SshError):
    """Nobody answers there, or not in time."""

    transient = True


class Denied(SshError):
    """The machine does not let this key in."""


class Imposter(SshError):
    """The host key is not the one this machine showed before."""


class Broken(SshError):
    """The connection was lost while it was used; what was sent may or may not have arrived."""

    transient = True


_IMPOSTER = ("REMOTE HOST IDENTIFICATION HAS CHANGED", "Host key verification failed")
_DENIED = ("Permission denied (", "Too many authentication failures", "no authentication methods")
_OPEN_KEY = ("UNPROTECTED PRIVATE KEY FILE", "bad permissions")
_BAD_KEY = ("Load key ", "no such identity", "Identity file ")


def from_connecting(said: str, where: str, *, key: Path, known_hosts: Path) -> SshError:
    """What ssh's own last words mean, when no command has run.

    said   its standard error
    where  user, host and port, for the message
    """
    if any(sign in said for sign in _IMPOSTER):
        return Imposter(
            f"{where} shows another host key than before: it may be another machine",
            hint=f"if you know why (it was made anew), remove {str(known_hosts)!r} and try again",
        )
    if any(sign in said for sign in _DENIED):
        return _denied(said, where, key)
    return NoAnswer(f"{where} does not answer: {_last_line(said) or 'ssh gave no reason'}")


def _denied(said: str, where: str, key: Path) -> Denied:
    if any(sign in said for sign in _OPEN_KEY):
        return Denied(
            f"the key {str(key)!r} can be read by others, so ssh does not use it",
            hint=f"make it private: chmod 600 {str(key)!r}",
        )
    if any(sign in said for sign in _BAD_KEY):
        why = next(line for line in said.splitlines() if any(sign in line for sign in _BAD_KEY))
        return Denied(
            f"the key {str(key)!r} cannot be used: {why.strip()}",
            hint="it must be a private key without a passphrase",
        )
    return Denied(
        f"{where} does not let the key {str(key)!r} in",
        hint="the machine must know the key's public half; most providers put it there at boot",
    )


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""
