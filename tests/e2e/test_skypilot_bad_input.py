"""What can go wrong with a SkyPilot that is not there: one sentence, a way out, nothing started."""

from __future__ import annotations

from pathlib import Path

import pytest
from clouds.skypilot.ports import free_ports
from desks import Desk, Ended

from backends.skypilot.catalog import FOLDER

FAILED, USAGE, REFUSED, CREDENTIALS, CAPACITY, CAPPED = 1, 2, 3, 4, 5, 7
TRAIN = ("train", "tiny", "-b", "skypilot", "-n", "one")
LIST = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region
g6.xlarge,L4,1.0,4.0,16.0,,0.8048,0.3,us-east-1
p5.48xlarge,H100,8.0,192.0,2048.0,,55.04,,us-east-1
"""


@pytest.fixture
def user(desk: Desk, tmp_path: Path) -> Desk:
    """Somebody with a home of their own, and no API server."""
    home = tmp_path / "home"
    (home / FOLDER / "aws").mkdir(parents=True)
    (home / FOLDER / "aws" / "vms.csv").write_text(LIST)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    return Desk(desk.here, desk.state, {"HOME": str(home), "SKYPILOT_API_SERVER_ENDPOINT": nobody})


def assert_said(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    for word in words:
        assert word in ended.said, ended.said


def test_no_server_is_said_with_the_way_out_and_none_is_started(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", "-y")
    assert_said(ended, FAILED, "no SkyPilot API server answers", "sky api start", "sky api login")
    assert user.store().runs() == []
    checked = user.run("check", "-b", "skypilot")
    assert_said(checked, CREDENTIALS, "no SkyPilot API server answers")


def test_a_dry_run_needs_no_server(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", "--dry-run")
    assert_said(ended, 0, "L4 x 1 in aws/us-east-1", "$0.80 an hour", "SkyPilot's list of aws")
    assert "takes itself down after 3 hours, with results that nobody fetched" in ended.said


STORE = ("--store", "s3://lab/jobs")


def test_where_a_job_that_recovers_is_kept_is_shown(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", "--recover", *STORE, "--dry-run")
    assert_said(ended, 0, "checkpoints and results are kept in s3://lab/jobs", "newest checkpoint")
    ended = user.run(*TRAIN, "-g", "L4", "--spot", *STORE, "--dry-run", "--json")
    assert ended.json()["offer"]["keeps"] == "s3://lab/jobs"


def test_a_recipe_that_names_a_bucket_is_told_of(user: Desk) -> None:
    (user.here / "mine.yml").write_text(
        "config: {base_model: x/y, datasets: [{path: x/z, type: alpaca}], adapter: lora}\n"
        "hardware: {gpu: L4, recover: true, store: 's3://lab/jobs'}\n"
    )
    ended = user.run("validate", "mine.yml")
    assert "checkpoints and results will be kept in s3://lab/jobs" in ended.out, ended.said


def test_a_job_that_recovers_has_to_be_kept_somewhere(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", "--recover", "--dry-run")
    assert_said(ended, CAPACITY, "takes a job up again by itself", "--store s3://BUCKET/PREFIX")


def test_a_bucket_that_nothing_would_be_kept_in(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", *STORE, "--dry-run")
    assert_said(ended, USAGE, "s3://lab/jobs is named", "add --recover")
    ended = user.run("train", "tiny", "-b", "local", "--recover", *STORE, "--dry-run")
    assert_said(ended, CAPACITY, "takes a job up again", "--store s3://BUCKET/PREFIX with -b sky")
    ended = user.run("train", "tiny", "-b", "auto", "--recover", *STORE, "--dry-run")
    assert_said(ended, USAGE, "auto takes several", "-b skypilot")
    ended = user.run(*TRAIN, "-g", "L4", "--recover", "--store", "here", "--dry-run")
    assert_said(ended, USAGE, "'here' is no bucket's address", "s3://BUCKET/PREFIX")


def test_a_limit_in_dollars_is_shown_as_one(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", "--max-cost", "1", "--dry-run")
    assert_said(ended, 0, "ends by itself after 1:14:33: $1 are spent then, at this price")
    ended = user.run(*TRAIN, "-g", "L4", "--max-cost", "1", "--max-duration", "5m", "--dry-run")
    assert_said(ended, 0, "ends by itself after 0:05:00\n")


def test_what_has_no_price_list_is_not_called_free(user: Desk) -> None:
    ended = user.run("train", "tiny", "-b", "skypilot:slurm/lab", "-g", "H100", "--dry-run")
    assert_said(ended, 0, "no price is known of slurm/lab")
    assert "no charge" not in ended.said


def test_a_gpu_that_nobody_has(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "H1000", "--dry-run")
    assert_said(ended, USAGE, "H1000", "H100")
    ended = user.run(*TRAIN, "-g", "H100:3", "--dry-run")
    assert_said(ended, CAPACITY, "H100")


def test_a_price_above_the_limit(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "H100:8", "--max-price", "10", "--dry-run")
    assert_said(ended, CAPPED, "$55.04 an hour", "--max-price")


def test_an_address_that_is_none(user: Desk) -> None:
    ended = user.run(*TRAIN, "-g", "L4", "-y", SKYPILOT_API_SERVER_ENDPOINT="not-an-address")
    assert_said(ended, REFUSED, "'not-an-address' is no address of a SkyPilot API server")


def recipe(user: Desk, nodes: int, **config: str) -> str:
    """`tiny` on several nodes."""
    path = user.here / "several.yml"
    sets = "".join(f"  {key}: {value}\n" for key, value in config.items())
    path.write_text(
        f"config: tiny\nhardware: {{gpu: L4, nodes: {nodes}}}\n" + (f"set:\n{sets}" if sets else "")
    )
    return path.name


def test_several_nodes_are_planned_with_the_price_of_all(user: Desk) -> None:
    ended = user.run("train", recipe(user, 2), "-b", "skypilot", "--dry-run")
    assert_said(ended, 0, "2 nodes x L4:1 in aws/us-east-1", "$1.61 an hour, $0.80 each")
    line = "accelerate launch --multi_gpu --num_processes 2 --num_machines 2 --machine_rank"
    assert_said(ended, 0, f"{line} $NODE_RANK --main_process_ip $NODE_ADDRESS")
    merge = ended.said.partition("job merge")[2]
    assert "NODE_RANK" not in merge


@pytest.mark.parametrize("backend", ["local", "jarvis"])
def test_where_a_job_is_one_machine_that_is_said(user: Desk, backend: str) -> None:
    ended = user.run("train", recipe(user, 2), "-b", backend, "--dry-run")
    assert_said(ended, REFUSED, "runs a job on one machine", "2 nodes", "-b skypilot")


def test_no_nodes_are_a_mistake(user: Desk) -> None:
    ended = user.run("train", recipe(user, 0), "-b", "skypilot", "--dry-run")
    assert_said(ended, REFUSED, "several.yml:2", "nodes")


def test_several_nodes_without_gpus(user: Desk) -> None:
    ended = user.run("train", recipe(user, 2), "-b", "skypilot", "-g", "cpu", "--dry-run")
    assert ended.code in {REFUSED, CAPACITY}, ended.said
    assert "Traceback" not in ended.said


def test_what_would_leave_parts_on_every_node(user: Desk) -> None:
    name = recipe(user, 2, fsdp_config="{state_dict_type: SHARDED_STATE_DICT}")
    ended = user.run("train", name, "-b", "skypilot", "--dry-run")
    assert_said(ended, REFUSED, "leaves parts of each checkpoint", "FULL_STATE_DICT")
