#!/bin/sh
# Make .venv with the development tools, and nothing twice. With `--test`, also what only the tests
# need from the system: pypy3, the oldest Python the runner promises, the sshd of the loopback
# clouds' machines, and rsync, a peer of the file sync.
#   PYTHON=/path/to/python   take this one instead of looking for Python 3.11 or newer
set -eu
cd "$(dirname "$0")/.."
PATH="${PATH:-/usr/bin}:/usr/local/bin:/usr/bin:/bin"

say() { printf 'setup: %s\n' "$*" >&2; }

# Install Debian packages, or say which are missing where that is not allowed.
need_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "missing: $*. Install them first, on Debian with: sudo apt-get install $*"
        return 1
    fi
    say "installing from Debian: $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# A Python that is new enough and can make a virtual environment; nothing is printed if there is none.
find_python() {
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 0
}

# An interrupted install leaves no stamp; another pyproject.toml leaves another.
if command -v sha256sum >/dev/null; then
    stamp=$(sha256sum <pyproject.toml)
else
    stamp=$(shasum -a 256 <pyproject.toml)
fi
stamp="$stamp $(pwd)"

if [ "$(cat .venv/ftlaunch-stamp 2>/dev/null || true)" != "$stamp" ] || ! .venv/bin/python -c '' 2>/dev/null; then
    python=$(find_python)
    if [ -z "$python" ]; then
        need_packages python3.11 python3.11-venv
        python=$(find_python)
    fi
    if [ -z "$python" ]; then
        say "no Python 3.11 or newer that can make a virtual environment (python3-venv)"
        exit 1
    fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "making .venv with $python"
        "$python" -m venv --clear .venv
    fi
    say "installing ftlaunch and the development tools into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,jarvis,modal,skypilot]'
    printf '%s' "$stamp" >.venv/ftlaunch-stamp
fi

if [ "${1:-}" = --test ]; then
    missing=
    command -v pypy3 >/dev/null || missing="$missing pypy3"
    [ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
    command -v ssh >/dev/null || missing="$missing openssh-client"
    command -v rsync >/dev/null || missing="$missing rsync"
    command -v socat >/dev/null || missing="$missing socat"
    command -v nc >/dev/null || missing="$missing netcat-openbsd"
    command -v curl >/dev/null || missing="$missing curl"
    [ -x /usr/sbin/slurmctld ] || missing="$missing slurm-wlm"
    # shellcheck disable=SC2086 - a list of package names
    [ -z "$missing" ] || need_packages $missing
fi
