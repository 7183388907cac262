"""A machine reached by the system's ssh: what is asked arrives, and what fails is told apart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest
from sshd import Sshd, free_port, new_key

from backends.protocol import silent
from backends.ssh.errors import Broken, Denied, Imposter, NoAnswer
from backends.ssh.host import Host, Target
from backends.testing.inputs import ODD_NAMES

LONG = timedelta(seconds=60)
NONE = timedelta(0)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


class TestRun:
    def test_output_error_and_code(self, host: Host) -> None:
        done = host.run(["sh", "-c", "cat; echo bad >&2; exit 7"], stdin=b"a\0b", timeout=LONG)
        assert (done.code, done.out, done.err) == (7, b"a\0b", b"bad\n")

    @pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
    def test_every_exit_code_is_an_answer(self, host: Host, code: int) -> None:
        assert host.run(["sh", "-c", f"exit {code}"], timeout=LONG).code == code

    def test_a_command_that_is_killed(self, host: Host) -> None:
        assert host.run(["sh", "-c", "kill -9 $$"], timeout=LONG).code == 137

    def test_a_command_that_is_not_there(self, host: Host) -> None:
        assert host.run(["no-such-program"], timeout=LONG).code == 127

    def test_odd_arguments_arrive_as_they_are(self, host: Host) -> None:
        odd = ["", " ", *ODD_NAMES, "a\\", "!!", "~", "'", '"', "%h", "line\n\nline", "x" * 50_000]
        done = host.run(["printf", "%s\\0", *odd], timeout=LONG)
        assert done.out.decode().split("\0")[:-1] == odd

    def test_much_in_and_out(self, host: Host) -> None:
        content = os.urandom(5_000_000)
        done = host.run(["sh", "-c", "tee /dev/stderr"], stdin=content, timeout=LONG)
        assert (done.out == content, done.err == content) == (True, True)

    def test_nothing_in_is_an_end(self, host: Host) -> None:
        assert host.run(["cat"], timeout=LONG).out == b""

    def test_too_slow(self, host: Host) -> None:
        with pytest.raises(NoAnswer, match=r"'sleep' within 0\.2 s"):
            host.run(["sleep", "60"], timeout=timedelta(seconds=0.2))
        assert host.run(["true"], timeout=LONG).code == 0

    def test_many_at_once_over_one_connection(self, host: Host, machine: Sshd) -> None:
        """More than the ten sessions that an sshd allows on one connection."""
        found: list[bytes] = []

        def ask(number: int) -> None:
            command = ["sh", "-c", f"sleep 1; echo {number}"]
            found.append(host.run(command, timeout=LONG).out.strip())

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(14)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found, key=int) == [b"%d" % number for number in range(14)]


class TestNoise:
    def test_what_the_login_shell_prints_is_not_ours(self, host: Host, home: Path) -> None:
        noise = "echo welcome; echo trouble >&2; printf 'no line end'\n"
        for name in (".bashrc", ".profile"):
            (home / name).write_text(noise)
        done = host.run(["sh", "-c", "echo out; echo err >&2"], timeout=LONG)
        assert (done.out, done.err) == (b"out\n", b"err\n")
        with host.popen(["echo", "clean"]) as process:
            assert process.communicate()[0] == b"clean\n"
        assert host.python()

    def test_a_shell_that_echoes_its_commands(self, host: Host, home: Path) -> None:
        (home / ".profile").write_text("set -xv\n")
        assert host.run(["echo", "out"], timeout=LONG).out == b"out\n"

    def test_a_megabyte_of_noise(self, host: Host, home: Path) -> None:
        (home / ".bashrc").write_text("head -c 1000000 /dev/zero\n")
        assert host.run(["echo", "out"], timeout=LONG).out == b"out\n"


class TestFailures:
    def test_refused(self, host: Host, machine: Sshd) -> None:
        machine.stop()
        with pytest.raises(NoAnswer, match="refused") as raised:
            host.run(["true"], timeout=LONG)
        assert raised.value.transient

    def test_a_port_that_is_no_ssh(self, machine: Sshd) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def hang_up() -> None:
                server.accept()[0].close()

            threading.Thread(target=hang_up, daemon=True).start()
            with pytest.raises(NoAnswer):
                machine.host(port=server.getsockname()[1]).run(["true"], timeout=LONG)

    def test_no_such_name(self, machine: Sshd, tmp_path: Path) -> None:
        target = Target("root", "no-such-name.invalid")
        there = Host(target, key=machine.key, known_hosts=tmp_path / "k", folder=tmp_path)
        with pytest.raises(NoAnswer, match="no-such-name"):
            there.run(["true"], timeout=LONG)

    def test_a_key_it_does_not_know(self, machine: Sshd, tmp_path: Path) -> None:
        stranger = new_key(tmp_path / "stranger")
        with pytest.raises(Denied, match="does not let the key") as raised:
            machine.host(key=stranger).run(["true"], timeout=LONG)
        assert not raised.value.transient

    def test_a_key_that_is_open_to_all(self, machine: Sshd) -> None:
        machine.key.chmod(0o644)
        with pytest.raises(Denied, match="read by others") as raised:
            machine.host().run(["true"], timeout=LONG)
        assert f"chmod 600 '{machine.key}'" in raised.value.hint

    @pytest.mark.parametrize("content", [None, "no key at all\n"])
    def test_a_key_that_is_none(self, machine: Sshd, tmp_path: Path, content: str | None) -> None:
        bad = tmp_path / "bad"
        if content is not None:
            bad.write_text(content)
            bad.chmod(0o600)
        with pytest.raises(Denied, match=r"cannot be used|does not let"):
            machine.host(key=bad).run(["true"], timeout=LONG)

    def test_another_host_key(self, machine: Sshd) -> None:
        assert machine.host().run(["true"], timeout=LONG).code == 0
        machine.change_host_key()
        with pytest.raises(Imposter) as raised:
            machine.host().run(["true"], timeout=LONG)
        assert not raised.value.transient
        assert str(machine.known_hosts) in raised.value.hint

    def test_the_connection_is_lost_in_the_middle(self, host: Host, machine: Sshd) -> None:
        assert host.run(["true"], timeout=LONG).code == 0
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                host.run(["sh", "-c", "echo begun > begun; sleep 600"], timeout=LONG)
            except BaseException as error:  # noqa: BLE001 - looked at below
                failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: host.run(["test", "-f", "begun"], timeout=LONG).code == 0)
        machine.cut()
        asking.join()
        assert [type(error) for error in failures] == [Broken], failures
        assert host.run(["echo", "again"], timeout=LONG).out == b"again\n"

    def test_the_master_is_killed(self, host: Host) -> None:
        with host.popen(["cat"]) as process:
            host.connected().process.kill()
            assert process.communicate(b"x")[0] == b""
        assert host.run(["echo", "again"], timeout=LONG).out == b"again\n"


class TestWait:
    def test_until_it_listens(self, host: Host, machine: Sshd) -> None:
        machine.stop()
        threading.Timer(1.0, machine.start).start()
        said: list[str] = []
        host.wait(LONG, told=lambda what, **_: said.append(what))
        assert "refused" in said[0]

    def test_until_the_key_has_landed(self, host: Host, machine: Sshd, tmp_path: Path) -> None:
        machine.authorize(new_key(tmp_path / "other"))
        threading.Timer(1.0, machine.authorize, [machine.key]).start()
        said: list[str] = []
        host.wait(LONG, told=lambda what, **_: said.append(what))
        assert "does not let" in said[0]

    def test_patience_ends(self, host: Host, machine: Sshd, tmp_path: Path) -> None:
        machine.authorize(new_key(tmp_path / "other"))
        with pytest.raises(Denied):
            host.wait(NONE, told=silent)
        machine.stop()
        with pytest.raises(NoAnswer):
            host.wait(NONE, told=silent)

    def test_an_imposter_is_not_waited_for(self, machine: Sshd) -> None:
        machine.host().wait(LONG, told=silent)
        machine.change_host_key()
        with pytest.raises(Imposter):
            machine.host().wait(LONG, told=silent)


def test_a_way_that_is_a_slow_program(machine: Sshd, tmp_path: Path) -> None:
    """As SkyPilot's, which imports all of its client first: ssh gives a machine 10 s to answer."""
    way = f"sh -c 'sleep 11; exec nc 127.0.0.1 {machine.port}'"
    config = tmp_path / "config"
    lines = ("Host far", f"User {machine.target.user}", f"ProxyCommand {way}")
    config.write_text("\n  ".join(lines) + "\n")
    target = Target(user="", host="far", config=config)
    folder = machine.host()._folder
    far = Host(target, key=machine.key, known_hosts=tmp_path / "known", folder=folder)
    machine.sessions.append(far)
    assert far.run(["true"], timeout=LONG).code == 0


class TestPython:
    def test_found_and_new_enough(self, host: Host) -> None:
        python = host.python()
        assert python is not None
        code = "import sys; print(sys.version_info >= (3, 9))"
        assert host.run([python, "-c", code], timeout=LONG).out == b"True\n"

    def test_an_old_one_is_passed_over(self, host: Host, home: Path) -> None:
        """The first name that is found is no Python, or one that is too old."""
        bin_ = home / "bin"
        bin_.mkdir()
        (bin_ / "python3").write_text("#!/bin/sh\nexit 0\n")
        (bin_ / "python3").chmod(0o755)
        (home / ".profile").write_text('PATH="$HOME/bin:$PATH"\n')
        python = host.python()
        assert python is not None
        assert not python.startswith(str(home))

    def test_none(self, host: Host, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("backends.ssh.shell._PYTHONS", "python3 python")
        (home / ".profile").write_text("PATH=/nowhere\n")
        assert host.python() is None


class TestSharing:
    def test_nothing_is_left_when_it_is_closed(self, machine: Sshd) -> None:
        with machine.host() as host:
            host.run(["true"], timeout=LONG)
            assert host.connected().alive
            master = host.connected()
        assert not master.alive
        assert list(master.socket.parent.iterdir()) == []

    def test_a_process_that_is_killed_leaves_no_connection(self, machine: Sshd) -> None:
        """Its master ends with it, and so does the session there."""
        program = f"""
import sys
from datetime import timedelta
from pathlib import Path
from backends.ssh.host import Host, Target
host = Host(Target({machine.target.user!r}, "127.0.0.1", {machine.port}),
    key=Path({str(machine.key)!r}), known_hosts=Path({str(machine.known_hosts)!r}),
    folder=Path({str(machine.folder)!r}))
print(host.connected().process.pid, flush=True)
sys.stdin.read()
"""
        argv = [sys.executable, "-c", program]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            master = int(process.stdout.readline())
            process.kill()
        until(lambda: not Path(f"/proc/{master}/cmdline").exists() or _dead(master))

    def test_a_long_and_odd_folder(self, machine: Sshd, tmp_path: Path) -> None:
        """The socket's name is capped at some hundred bytes, and ssh splits options at spaces."""
        folder = tmp_path / "with space %h" / ("long" * 20)
        known = tmp_path / "with space %h" / "known hosts"
        (tmp_path / "with space %h").mkdir()
        with Host(machine.target, key=machine.key, known_hosts=known, folder=folder) as host:
            assert host.run(["echo", "out"], timeout=LONG).out == b"out\n"
            own = host.connected().socket.parent
        assert known.read_text().startswith("[127.0.0.1]")
        assert not own.exists()

    def test_two_at_once_are_apart(self, machine: Sshd) -> None:
        one, two = machine.host(), machine.host()
        assert one.run(["true"], timeout=LONG).code == two.run(["true"], timeout=LONG).code == 0
        one.close()
        assert two.run(["echo", "out"], timeout=LONG).out == b"out\n"


class _Serves(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode() * 10_000)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base's name
        pass


class TestForward:
    def test_a_port_there(self, host: Host, machine: Sshd) -> None:
        with ThreadingHTTPServer(("127.0.0.1", 0), _Serves) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with host.forward(server.server_address[1]) as address:
                assert address.host == "127.0.0.1"
                for name in ("one", "two"):
                    assert _get(address.port, name) == f"/{name}".encode() * 10_000
                machine.cut()
                assert _get(address.port, "three") == b"/three" * 10_000
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", address.port)).close()
            server.shutdown()

    def test_nobody_listens_there(self, host: Host) -> None:
        with host.forward(free_port()) as address:
            client = socket.create_connection(("127.0.0.1", address.port))
            with closing(client):
                assert client.recv(1) == b""

    def test_one_that_is_open_ends_with_the_tunnel(self, host: Host) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            with host.forward(server.getsockname()[1]) as address:
                client = socket.create_connection(("127.0.0.1", address.port))
                served, _ = server.accept()
                client.sendall(b"ping")
                assert served.recv(4) == b"ping"
            with closing(client), closing(served):
                assert client.recv(1) == b""
                assert served.recv(1) == b""


def _get(port: int, name: str) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/{name}", timeout=60) as reply:
        content: bytes = reply.read()
    return content


def _dead(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return stat[0] == "Z"
