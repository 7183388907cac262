"""The main job at a provider, with real axolotl: what is the same wherever it runs.

One story, told in the order of its tests: a run is trained, what it rented is let go of, and then
each question is a job of its own on what the provider still holds. The class of a provider says how
its loopback cloud is opened, and may go on with chapters of its own.
"""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import same_commands
from desks import Desk, Ended
from here_story import HERE, Here, here
from proc_spy import Spy
from terminals import Terminal

from launcher import environment

PATIENCE_S = 1800.0
STEPS = ("preprocess", "train", "merge_lora", "inference")


@dataclass(frozen=True)
class Story:
    """A user with an account, the run, and what was started for it here and there.

    given    bytes on the provider's disks of models, data and earlier results
    bills    whether a machine or container bills for more than its disk
    run      its name, which no other run of the tests has
    """

    desk: Desk
    cloud: Any
    run: str
    trained: Ended
    here: Here
    far: Spy
    given: Callable[[], int]
    bills: Callable[[], bool]

    def at_rest(self) -> bool:
        """Whether nothing bills, or stops to within minutes."""
        end = time.monotonic() + 300
        while self.bills():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True


def managed_python() -> Path:
    """The Python of the managed environment, made if it is not there."""
    return environment.python_of(environment.ensure(environment.choose({}, gpu=False)))


def told(
    folder: Path, provider: str, cloud: Any, variables: dict[str, str], reference: Path
) -> dict[str, Any]:
    """Train, merge and ask `tiny` there, and once here: the parts of a `Story` it makes."""
    (folder / "here").mkdir()
    run = f"held-{provider}"
    desk = Desk(folder / "here", folder / "state", variables)
    with Spy("axolotl.cli.", run) as far:
        argv = ["train", "tiny", "-n", run, "-b", provider, "-g", "cpu", "-y"]
        trained = desk.run(*argv, "--on-finish", "pause", timeout=PATIENCE_S)
        desk.run("inference", run, "-p", "one")
    return {
        "desk": desk,
        "cloud": cloud,
        "run": run,
        "trained": trained,
        "far": far,
        "here": here(reference),
    }


class RentedStory:
    """The tests; `apart` are the provider's own variables in a job, said one by one in its file."""

    provider: ClassVar[str]
    apart: ClassVar[frozenset[str]] = frozenset()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every id carries the provider's name, and the step's where there is one."""
        if "step" in metafunc.fixturenames:
            mark = metafunc.definition.get_closest_marker("steps")
            steps = mark.args if mark is not None else ("",)
            ids = [f"{self.provider}-{step}" if step else self.provider for step in steps]
            metafunc.parametrize("step", steps, ids=ids)

    @pytest.fixture(scope="class")
    @classmethod
    def story(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
        """`tiny`, trained and merged on this machine and on a rented one, and asked once there."""
        raise NotImplementedError("override the fixture `story`")

    def test_a_run_comes_home_whole(self, story: Story, step: str) -> None:
        assert story.trained.code == 0, story.trained.said
        facts = story.desk.run("inspect", story.run, "--json").json()
        assert {job["kind"]: job["phase"] for job in facts["jobs"]} == {
            "train": "succeeded",
            "merge": "succeeded",
            "inference": "succeeded",
        }
        out = story.desk.here / "runs" / story.run / "output"
        assert (out / "adapter_model.safetensors").exists()
        assert (out / "merged" / "model.safetensors").exists()
        assert story.at_rest()

    @pytest.mark.steps(*STEPS)
    def test_identical_commands(self, story: Story, step: str) -> None:
        mine_there = story.far.first(f"axolotl.cli.{step}")
        mine_here = story.here.spy.first(f"axolotl.cli.{step}")
        assert same_commands.plain(mine_there) == same_commands.plain(mine_here)
        mine, its = same_commands.variables(mine_here), same_commands.variables(mine_there)
        # As many threads as the machine has cores for the job, and that is the machine's.
        assert int(its.pop("OMP_NUM_THREADS")) > 0
        assert int(mine.pop("OMP_NUM_THREADS")) > 0
        assert its == mine
        apart = same_commands.MACHINE_S | set(same_commands.OURS_APART) | self.apart
        assert set(mine_there.environ) - set(mine) - {"OMP_NUM_THREADS"} <= apart
        assert not any(secret in str(mine_there) for secret in self.secrets(story))

    def secrets(self, story: Story) -> list[str]:
        """What no process of a job may be given."""
        raise NotImplementedError

    def test_identical_files(self, story: Story, step: str) -> None:
        outs = [
            desk.here / "runs" / name / "output"
            for desk, name in ((story.here.desk, HERE), (story.desk, story.run))
        ]
        found = [
            {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
            for out in outs
        ]
        assert found[0] == found[1]
        for name in ("adapter_model.safetensors", "merged/model.safetensors"):
            digests = {same_commands.tensors(managed_python(), out / name) for out in outs}
            assert len(digests) == 1, name

    @pytest.mark.steps("merge")
    def test_a_merge_goes_back_to_what_the_provider_holds(self, story: Story, step: str) -> None:
        before = story.given()
        ended = story.desk.run("merge", story.run, "-b", self.provider)
        assert ended.code == 0, ended.said
        assert story.given() == before
        assert story.at_rest()

    @pytest.mark.steps("inference")
    def test_many_prompts_are_answered_there(self, story: Story, step: str) -> None:
        before = story.given()
        (story.desk.here / "asked.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
        argv = ["inference", story.run, "-b", self.provider, "--max-new-tokens", "4"]
        ended = story.desk.run(*argv, "--prompts", "asked.jsonl", "-o", "answers.jsonl")
        assert ended.code == 0, ended.said
        rows = (story.desk.here / "answers.jsonl").read_text().splitlines()
        assert [json.loads(row)["prompt"] for row in rows] == ["one", "two"]
        assert story.given() == before
        assert story.at_rest()

    @pytest.mark.steps("chat")
    def test_a_chat_goes_through_a_private_tunnel(self, story: Story, step: str) -> None:
        before = story.given()
        argv = ["inference", story.run, "-b", self.provider, "--chat"]
        with Terminal(story.desk, *argv) as chat:
            chat.until("axolotl chat")
            chat.type("/set max_new_tokens 5\nWhat colour is the fox?\n/status\n/quit\n")
            chat.until("max_new_tokens")
            assert chat.ended() == 0, chat.heard
        assert story.given() == before
        assert story.at_rest()

    @pytest.mark.steps("gradio")
    def test_a_page_goes_through_a_private_tunnel(self, story: Story, step: str) -> None:
        before = story.given()
        page = story.desk.start("inference", story.run, "-b", self.provider, "--gradio")
        try:
            assert page.stdout is not None
            said = ""
            while "open http://" not in said:
                line = page.stdout.readline()
                assert line, said
                said += line
            url = said[said.index("http://") :].split()[0]
            assert url.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(url, timeout=120) as reply:
                assert reply.status == 200
            page.send_signal(signal.SIGINT)
            assert page.wait(600) == 0
        finally:
            page.kill()
            page.wait()
            if page.stdout is not None:
                page.stdout.close()
        assert story.given() == before
        assert story.at_rest()
