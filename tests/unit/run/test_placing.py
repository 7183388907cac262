"""Where a further job goes, and what the run's recipe is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from toy_run import Toy, run_spec, toy

from backends.errors import Refused
from backends.job import Files
from backends.lease import Phase
from backends.offer import Money, Need, Offer
from launcher.commands import Target
from launcher.run import limits, spec
from launcher.run.placing import Place, place
from launcher.store import JobRecord


def offer(gpu: str | None, dollars: str, count: int = 1) -> Offer:
    return Offer("shop", gpu, count if gpu else 0, Money(Decimal(dollars)), cpus=4)


L4, A100, NONE = offer("L4", "0.50"), offer("A100", "2.00", 2), offer(None, "0.05")


class Shop:
    """Rents two kinds of GPU and machines without one."""

    name = "shop"

    def offers(self, need: Need, *, live: bool) -> Sequence[Offer]:
        assert live
        if need.cpu_only:
            return [NONE]
        wanted = [kind for kind, _ in need.gpus]
        return [one for one in (L4, A100) if not wanted or one.gpu in wanted]


class Backends:
    """Every backend is the shop."""

    def named(self, spec: str) -> Any:
        return Shop()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    with toy(tmp_path, backend="shop", offer=L4) as toy_made:
        monkeypatch.setenv("FTLAUNCH_STATE_DIR", str(toy_made.state))
        yield toy_made


def settle(made: Toy, **changes: Any) -> None:
    """Let the run's recipe be another."""
    text = spec.run_to_json(replace(run_spec(), **changes))
    with made.store._writing() as db:
        db.execute("UPDATE runs SET spec = ?", (text,))


def ended(made: Toy, *, kept: bool) -> JobRecord:
    """The training, over, its files at the provider or not."""
    job = made.store.jobs(made.run.id)[0]
    made.store.mark_launched(job.id)
    made.store.mark_ended(job.id, Phase.SUCCEEDED, exit_code=0, reason="", cost=None)
    made.store.mark_closed(job.id, Files("shop", "f") if kept else None)
    return made.store.job(job.id)


def placed(made: Toy, before: JobRecord, **how: Any) -> Place:
    backends: Any = Backends()
    return place(made.store, made.run, before, backends=backends, **how)


def test_what_is_held_is_gone_back_to(made: Toy) -> None:
    there = placed(made, ended(made, kept=True))
    assert (there.offer, there.agreed) == (L4, True)
    assert there.settled == spec.run_from_json(made.store.run_spec(made.run.id))


def test_with_other_gpus_than_the_machine_that_has_the_files_it_is_refused(made: Toy) -> None:
    before = ended(made, kept=True)
    with pytest.raises(Refused, match="on a machine with L4 x 1"):
        placed(made, before, gpus=(("A100", 2),))
    assert placed(made, before, gpus=(("L4", 1),)).offer == L4


def test_with_nothing_held_other_gpus_are_another_target(made: Toy) -> None:
    there = placed(made, ended(made, kept=False), gpus=(("A100", 2),))
    assert there.offer == A100
    assert (there.settled.target.kind, there.settled.target.gpus) == ("cuda", 2)
    assert not there.agreed
    assert there.settled.environment.prefix is None
    assert there.settled.environment.lock is not None


def test_without_a_gpu_the_config_and_its_file_are_those_for_a_cpu(made: Toy) -> None:
    settle(made, config={"adapter": "qlora", "load_in_4bit": True, "bf16": True})
    there = placed(made, ended(made, kept=False), gpus=(("cpu", 0),))
    assert there.settled.target.kind == "cpu"
    assert there.settled.config["adapter"] == "lora"
    assert there.settled.env["CUDA_VISIBLE_DEVICES"] == ""
    (file,) = there.settled.small
    assert file.at == PurePosixPath("bundle/ftlaunch.yml")
    assert "adapter: lora" in file.here.read_text()


def test_the_limit_in_money_is_a_limit_in_time_at_the_new_price(made: Toy) -> None:
    settle(made, max_cost=Decimal(1), max_duration=timedelta(hours=2))
    there = placed(made, ended(made, kept=False), gpus=(("A100", 2),))
    settled = there.settled
    limit = limits.whole(settled.max_duration, settled.max_cost, there.offer)
    assert limit == timedelta(minutes=30)


def test_a_job_on_one_that_was_elsewhere_is_settled_for_where_that_was(made: Toy) -> None:
    job = made.store.jobs(made.run.id)[1]
    with made.store._writing() as db:
        text = spec.offer_to_json(A100)
        db.execute("UPDATE jobs SET backend = 'other', offer = ? WHERE id = ?", (text, job.id))
    made.store.mark_launched(job.id)
    made.store.mark_closed(job.id, Files("shop", "g"))
    there = placed(made, made.store.job(job.id))
    assert (there.spec, there.offer) == ("other", A100)
    assert (there.settled.target.kind, there.settled.target.gpus) == ("cuda", 2)


def test_on_another_backend_what_was_asked_of_the_first_is_not_asked(made: Toy) -> None:
    settle(made, need=Need(gpus=(("H200", 8),), regions=("moon",)))
    there = placed(made, ended(made, kept=True), backend="other")
    assert there.offer == NONE  # the toy's target is a machine without a GPU
    assert not there.agreed


def test_the_user_s_own_variables_stay(made: Toy) -> None:
    settle(made, env={"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "", "MINE": "1"})
    there = placed(made, ended(made, kept=False), gpus=(("A100", 2),))
    assert there.settled.env == {"OMP_NUM_THREADS": "3", "MINE": "1"}


def test_only_a_training_goes_on_on_several_nodes(made: Toy) -> None:
    two = A100.of(2)
    assert (two.nodes, two.price.amount) == (2, Decimal("4.00"))
    with made.store._writing() as db:
        db.execute("UPDATE jobs SET offer = ?", (spec.offer_to_json(two),))
    settle(made, need=Need(gpus=(("A100", 2),), nodes=2), target=Target("cuda", gpus=2, nodes=2))
    held = placed(made, ended(made, kept=True))
    assert (held.offer.nodes, held.offer.price.amount) == (1, Decimal("2.00"))
    anew = placed(made, made.store.jobs(made.run.id)[0], gpus=(("L4", 1),), backend="other")
    assert (anew.settled.target.gpus, anew.settled.target.nodes) == (1, 1)
    resumed = placed(made, made.store.jobs(made.run.id)[0], nodes=2)
    assert (resumed.offer, resumed.settled.target.nodes) == (two, 2)


def test_a_limit_of_dollars_holds_at_another_provider_too(
    made: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(made, need=Need(gpus=(("L4", 1),), capped=True))
    asked: list[Need] = []

    def offers(self: Shop, need: Need, *, live: bool) -> Sequence[Offer]:
        asked.append(need)
        return [A100]

    monkeypatch.setattr(Shop, "offers", offers)
    placed(made, ended(made, kept=False), backend="other")
    placed(made, ended(made, kept=False), backend="other", gpus=(("A100", 2),))
    assert [need.capped for need in asked] == [True, True]
