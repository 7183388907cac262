"""Programs that the suite's jobs run: each a few lines of plain Python 3.9, given with `-c`.

They work in the run directory. `ready(text)` makes `output/ready` appear whole.
"""

_BEGIN = """
import json, os, signal, socket, subprocess, sys, time
os.makedirs("output", exist_ok=True)
def ready(text=""):
    with open("output/.ready", "w") as file:
        file.write(text)
    os.replace("output/.ready", "output/ready")
"""

HELLO = _BEGIN + 'print("hello")\n'

SAYS_WHAT_IT_SEES = (
    _BEGIN
    + """
import hashlib
def digest(content):
    return hashlib.sha256(content).hexdigest()
files = {}
for folder, _, names in os.walk(".", followlinks=True):
    for name in names:
        path = os.path.relpath(os.path.join(folder, name), ".")
        if path.split(os.sep)[0] in ("bundle", "inputs"):
            with open(path, "rb") as file:
                files[path] = digest(file.read())
seen = {
    "argv": sys.argv[1:],
    "files": files,
    "environment": {name: digest(os.fsencode(value)) for name, value in os.environ.items()},
    "stdin": digest(sys.stdin.buffer.read()),
}
with open("output/seen.json", "w") as file:
    json.dump(seen, file)
"""
)
"""Digests only: a secret that a program wrote down itself would be found in its output."""

ENDS_LATER = (
    _BEGIN
    + """
with open("output/starts", "a") as file:
    file.write("started\\n")
ready()
time.sleep(float(sys.argv[1]))
with open("output/done", "w") as file:
    file.write("done")
"""
)

EXITS = "import sys; sys.exit(int(sys.argv[1]))"

KILLS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"

TRAINS = (
    _BEGIN
    + """
stop = []
signal.signal(signal.SIGINT, lambda *_: stop.append(1))
ready()
for step in range(1, 6000):
    if os.path.exists("output/save-now"):
        os.unlink("output/save-now")
        folder = "output/checkpoint-%d" % step
        os.makedirs(folder)
        for name in ("weights", "last"):
            with open(folder + "/" + name, "w") as file:
                file.write(str(step))
    if stop:
        with open("output/final", "w") as file:
            file.write(str(step))
        break
    time.sleep(0.02)
"""
)
"""Writes a checkpoint when `output/save-now` asks for it, and ends in order on an interrupt."""

STUBBORN = (
    _BEGIN
    + """
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
if len(sys.argv) > 1:
    line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    os.set_inheritable(line.fileno(), True)
    sleeps = [sys.executable, "-c", "import time; time.sleep(120)"]
    child = subprocess.Popen(sleeps, close_fds=False)
ready()
time.sleep(120)
"""
)
"""Hears no polite request. Given a port of this machine, it and a child of it hold a connection."""

GROWS = (
    _BEGIN
    + """
with open("output/growing", "wb", buffering=0) as file:
    for number in range(20):
        file.write(b"line %d\\n" % number)
        if number == 0:
            ready()
        time.sleep(0.05)
time.sleep(120)
"""
)

SERVES = (
    _BEGIN
    + """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the job: " + self.path.encode())
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer)
ready()
server.serve_forever()
"""
)

MAKES_FILES = (
    _BEGIN
    + """
for name, size in json.loads(sys.argv[1]).items():
    path = os.path.join("output", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write((name.encode() + b"\\n") * size)
"""
)
"""Each file holds its own name and a line end, as many times as it is told."""
