"""How a process is pointed at a loopback cloud: before anybody imports the SDK, and not later."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jarvislabs.constants
import jarvislabs.instances
from clouds.jarvis import Cloud
from clouds.jarvis.cloud import SITE
from clouds.jarvis.site import jarvis_loopback

SAID = {"regions": {"india-noida-01": "http://127.0.0.1:1/n/"}, "speed": 50.0}


def python(program: str, *path: Path, said: dict[str, Any] | None = SAID) -> str:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [SITE, *path]))}
    if said is not None:
        environ[jarvis_loopback.VARIABLE] = json.dumps(said)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_sdk_is_pointed_at_the_cloud_and_its_sleeps_are_short() -> None:
    said = python("""
        import jarvislabs, time
        from jarvislabs import constants, deployments, instances, transport
        hosts = constants.REGION_URLS
        print(hosts["india-noida-01"], transport.REGION_URLS is hosts)
        print(*constants.SERVERLESS_REGION_URLS.values())
        began = time.monotonic()
        transport.time.sleep(25)
        instances.time.sleep(25)
        print(time.monotonic() - began < 20, instances.time.monotonic is time.monotonic)
    """)
    assert said.splitlines() == [
        "http://127.0.0.1:1/n/ True",
        "http://127.0.0.1:1/n/serverless/ http://127.0.0.1:1/n/serverless/",
        "True True",
    ]


def test_it_imports_nothing_itself() -> None:
    heavy = python("""
        import sys
        print([name for name in ("jarvislabs", "httpx", "importlib.util") if name in sys.modules])
    """)
    assert heavy == "[]"


def test_without_a_cloud_nothing_is_changed() -> None:
    url = python(
        "from jarvislabs.constants import *; print(REGION_URLS[DEFAULT_REGION])", said=None
    )
    assert url.startswith("https://")


def test_another_sitecustomize_is_run_as_well(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.other = __name__\n")
    program = "import sys; from jarvislabs.constants import REGION_URLS as r; print(sys.other, *r)"
    assert python(program, tmp_path).startswith("sitecustomize india")


def test_a_patch_of_this_process_is_taken_back(tmp_path: Path) -> None:
    before = dict(jarvislabs.constants.REGION_URLS)
    cloud = Cloud(tmp_path)
    with contextlib.suppress(ZeroDivisionError), cloud.patch():
        assert jarvislabs.constants.REGION_URLS["europe-01"].startswith("http://127.0.0.1")
        slow = vars(jarvislabs.instances)["time"]
        assert isinstance(slow, jarvis_loopback.Time)
        raise ZeroDivisionError
    assert before == jarvislabs.constants.REGION_URLS
    assert vars(jarvislabs.instances)["time"] is vars(sys)["modules"]["time"]
    assert not any(isinstance(finder, jarvis_loopback.Hook) for finder in sys.meta_path)


def test_what_another_process_must_be_told(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, key="jl_mine")
    told = cloud.environ
    assert told["JL_API_KEY"] == "jl_mine"
    assert told["PYTHONPATH"].split(os.pathsep)[0] == str(SITE)
    assert set(json.loads(told[jarvis_loopback.VARIABLE])["regions"]) == set(
        jarvislabs.constants.REGION_URLS
    )
