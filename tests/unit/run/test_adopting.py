"""What travels with a job, and what another computer makes of it; this machine is the provider."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from toy_run import job, run_spec

from backends import registry
from backends.errors import MayStillBill, Refused
from backends.job import Cache, Environment, Job, LocalFile, LocalTree
from backends.lease import Keep, Lease, Phase
from backends.offer import FREE, Need, Offer
from backends.protocol import Backend, silent
from launcher import places
from launcher.on_finish import bills
from launcher.run import adopting, cleaning, conductor, papers, spec
from launcher.run.adding import add_job
from launcher.run.desk import Desk
from launcher.run.loaded import Backends
from launcher.run.spec import AttachJob
from launcher.store import Store, open_store

OFFER = Offer(backend="local", gpu=None, count=0, price=FREE)


def file(here: Path, at: str, content: str) -> LocalFile:
    here.parent.mkdir(parents=True, exist_ok=True)
    here.write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return LocalFile(here, PurePosixPath(at), len(content), digest)


@dataclass
class Begun:
    """A training that runs, with a merge planned that needs a file and a model."""

    backend: Backend
    lease: Lease
    at: Path
    second: Store
    folder: Path

    def adopt(self, *secrets: str) -> adopting.Adopted:
        return adopting.adopt(
            self.second,
            self.backend,
            self.lease,
            folder=self.folder,
            secrets=secrets,
        )


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begun]:
    monkeypatch.setattr(conductor, "start", lambda run_id: None)
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "first"))
    small = file(tmp_path / "mine" / "ftlaunch.yml", "bundle/ftlaunch.yml", "a: 1\n")
    weights = file(tmp_path / "mine" / "weights", "weights", "of a model")
    model = Cache("a-model", LocalTree((weights,)), PurePosixPath("bundle/models/m"))
    software = Environment(prefix=tmp_path / "mine" / "env", lock=tmp_path / "axolotl-cpu.txt")
    settled = replace(run_spec(), small=(small,), caches=(model,), environment=software)
    store = open_store(tmp_path / "first")
    run = store.add_run(
        run_id="abc1",
        name="mine",
        recipe="toy",
        backend="local",
        output_dir=tmp_path / "out",
        spec=spec.run_to_json(settled),
    )
    shared: dict[str, Any] = {"files": (small,), "caches": (model,), "environment": software}
    train = replace(job("train", seconds=60, secrets=("MY_SECRET",)), **shared)
    first = add_job(store, run, train, OFFER)
    merge = job("merge", seconds=1, attach=(AttachJob(first, PurePosixPath("inputs/train")),))
    add_job(store, run, replace(merge, **shared, secrets=("MY_SECRET",)), OFFER)
    record = store.jobs(run.id)[0]
    desk = Desk(store, run, Backends(tmp_path / "provider"), settled)
    paper = papers.with_job(desk, record, tmp_path / "staged")
    backend = registry.load("local", state_dir=tmp_path / "provider")
    made = Job(
        name=record.name,
        plan=train.plan,
        inputs=(LocalTree((small, paper)),),
        caches=(model,),
    )
    lease = backend.launch(made, OFFER, on_lease=lambda found: None, progress=silent)
    at = tmp_path / "provider" / "local" / "runs" / record.name
    end = time.monotonic() + 30
    while not (at / "state.json").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(tmp_path / "second"))
    second = open_store(tmp_path / "second")
    # Nothing of the first computer is left.
    (tmp_path / "mine" / "ftlaunch.yml").unlink()
    (tmp_path / "mine" / "weights").unlink()
    yield Begun(backend, lease, at, second, tmp_path / "here")
    backend.release(lease, keep=Keep.NOTHING)
    store.close()
    second.close()


def test_a_secret_is_not_sent_because_a_machine_asks_for_it(begun: Begun) -> None:
    adopted = begun.adopt()
    assert adopted.left_out[0].startswith("merge is left out: it asks for the secret MY_SECRET")
    assert adopted.secrets == ()


def test_all_that_the_later_job_needs_is_brought_here(begun: Begun) -> None:
    assert adopting.strangers(begun.second, begun.backend) == [begun.lease]
    adopted = begun.adopt("MY_SECRET")
    assert (adopted.run.name, adopted.run.id, adopted.job) == ("mine", "abc1", "train")
    assert adopted.run.output_dir == begun.folder / "runs" / "mine"
    assert adopted.left_out == ()
    assert adopted.secrets == ("MY_SECRET",)
    train, merge = begun.second.jobs("abc1")
    assert train.lease == begun.lease
    assert train.launched_at is not None
    wanted = spec.job_from_json(merge.spec)
    assert wanted.attach[0].job_id == train.id
    assert wanted.environment.prefix is None
    assert wanted.environment.lock is not None
    assert wanted.environment.lock.is_file()
    staged = places.run_dir("abc1") / "staged"
    for one in (*wanted.files, *wanted.caches[0].tree.files):
        assert one.here.parent == staged
        assert hashlib.sha256(one.here.read_bytes()).hexdigest() == one.sha256
    assert adopting.strangers(begun.second, begun.backend) == []


def test_a_file_that_is_no_longer_what_it_was_leaves_the_job_out(begun: Begun) -> None:
    changed = begun.at / "bundle" / "ftlaunch.yml"
    changed.chmod(0o600)
    changed.write_text("b: 2\n")
    adopted = begun.adopt("MY_SECRET")
    (why,) = adopted.left_out
    assert why.startswith("merge is left out: ")
    assert "no longer what it was" in why
    train, merge = begun.second.jobs("abc1")
    assert train.open
    assert not merge.open
    assert merge.phase is Phase.STOPPED


def test_a_job_that_has_not_begun_is_left_to_who_is_at_it(begun: Begun) -> None:
    (begun.at / "state.json").unlink()
    with pytest.raises(MayStillBill, match="has not begun"):
        begun.adopt("MY_SECRET")
    assert begun.second.runs() == []


def test_papers_cannot_send_a_job_to_this_computer(begun: Begun) -> None:
    said = json.loads((begun.at / papers.AT).read_text())
    said["jobs"][1]["backend"] = "elsewhere"
    _replace(begun.at / papers.AT, json.dumps(said).encode())
    (why,) = begun.adopt("MY_SECRET").left_out
    assert "it is to run on elsewhere" in why


@pytest.mark.parametrize("may_move", [True, False])
def test_a_training_that_may_have_moved_is_not_begun_a_second_time(
    begun: Begun, may_move: bool
) -> None:
    said = json.loads((begun.at / papers.AT).read_text())
    said["jobs"][1]["spec"]["kind"] = "train"
    said["may_move"] = may_move
    _replace(begun.at / papers.AT, json.dumps(said).encode())
    left_out = begun.adopt("MY_SECRET").left_out
    assert ["may have taken it to another provider" in why for why in left_out] == [True] * may_move


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"schema": 2}', b"[1]"])
def test_papers_that_are_none(begun: Begun, content: bytes) -> None:
    _replace(begun.at / papers.AT, content)
    adopted = begun.adopt("MY_SECRET")
    assert adopted.run.name == "mine"  # by the job's name
    (train,) = begun.second.jobs(adopted.run.id)
    assert train.kind == "train"
    assert spec.job_from_json(train.spec).pull == ("output/**",)


def test_a_damaged_price_list_is_no_reason_to_leave_a_machine_that_bills(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(need: Need, *, live: bool) -> list[Offer]:
        raise Refused("the price list prices.json is damaged")

    monkeypatch.setattr(begun.backend, "offers", damaged)
    assert [one.bills for one in cleaning.clean(begun.second, begun.backend)] == [True]
    _replace(begun.at / papers.AT, b"")
    adopted = begun.adopt("MY_SECRET")
    (train,) = begun.second.jobs(adopted.run.id)
    assert bills(spec.offer_from_json(train.offer))


def test_papers_cannot_name_a_file_of_this_computer(begun: Begun, tmp_path: Path) -> None:
    said = json.loads((begun.at / papers.AT).read_text())
    for one in said["jobs"]:
        for given in one["spec"]["files"]:
            given["here"] = "/etc/passwd"
    _replace(begun.at / papers.AT, json.dumps(said).encode())
    begun.adopt("MY_SECRET")
    for one in begun.second.jobs("abc1"):
        for kept in spec.job_from_json(one.spec).files:
            assert kept.here.parent == places.run_dir("abc1") / "staged"


@pytest.mark.parametrize(
    ("key", "value"), [("run_id", "../../x"), ("job", 99), ("schema", 7), ("name", "../../up")]
)
def test_papers_cannot_lead_out_of_their_places(begun: Begun, key: str, value: object) -> None:
    said = json.loads((begun.at / papers.AT).read_text())
    _replace(begun.at / papers.AT, json.dumps({**said, key: value}).encode())
    adopted = begun.adopt("MY_SECRET")
    assert adopted.run.output_dir.parent == begun.folder / "runs"
    assert "/" not in adopted.run.id


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_a_name_that_a_run_or_a_folder_has(begun: Begun) -> None:
    (begun.folder / "runs" / "mine").mkdir(parents=True)
    begun.second.add_run(
        run_id="other",
        name="mine-2",
        recipe="toy",
        backend="local",
        output_dir=begun.folder,
        spec="{}",
    )
    assert begun.adopt("MY_SECRET").run.name == "mine-3"


def test_the_papers_hold_nothing_of_this_computer(begun: Begun, tmp_path: Path) -> None:
    text = (begun.at / papers.AT).read_text()
    assert str(tmp_path) not in text
    assert sys.prefix not in json.dumps(json.loads(text)["spec"])
