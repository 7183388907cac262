"""The account at the provider, through its own SDK; every error of it becomes one of ours here.

The SDK is used for what it knows: keys, addresses, payloads, its checks before a create. Two of its
habits are not ours. Its `create` and `resume` wait for the machine and forget its id when that goes
wrong: the transport below hands the id out the moment the provider has answered. And one row that
it cannot read hides all others: lists are read row by row (`rows.py`).
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.errors import CredentialsMissing, Unreachable
from backends.jarvis import rows
from backends.jarvis.rows import Row
from backends.jarvis.translation import GET_KEY, Accepted, require_sdk, translated

if TYPE_CHECKING:
    from jarvislabs.instances import Instances
    from jarvislabs.transport import Transport

KEY = "JL_API_KEY"
DASHBOARD = "https://jarvislabs.ai/instances"


@dataclass(frozen=True)
class Ask:
    """A machine to be made. gpu None: a CPU virtual machine of `cpus` and `memory_gib`."""

    name: str
    region: str
    template: str
    disk_gib: int
    gpu: str | None = None
    count: int = 1
    spot: bool = False
    filesystem: int | None = None
    cpus: int | None = None
    memory_gib: int | None = None


@dataclass(frozen=True)
class Gpu:
    """One line of the provider's catalogue: a kind of GPU in a region.

    kind  `container`, `vm`, or None for both
    free  how many an on-demand machine could get now; spot_free: a spot one
    """

    gpu: str
    region: str
    kind: str | None
    price: float | None
    spot_price: float | None
    free: int
    spot_free: int
    memory_gib: float | None
    cpus: int | None
    ram_gib: int | None


@dataclass
class _Asking:
    """What the transport tells its account, without holding it."""

    asked: bool = False


class Account:
    """One account. Every method may raise the errors of `translated`, and no other."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._made: Transport | None = None
        self._asking = _Asking()

    @property
    def asked(self) -> bool:
        """Whether the last create or resume got as far as asking the provider."""
        return self._asking.asked

    @property
    def key(self) -> str:
        """The account's key. Raises CredentialsMissing, or NotLaunched without the SDK."""
        require_sdk()
        from jarvislabs import config

        key = self._environ.get(KEY) or config.load_config().get("auth", {}).get("token")
        if not key:
            raise CredentialsMissing("there is no key for Jarvis Labs", hint=GET_KEY)
        return str(key)

    @property
    def _transport(self) -> Transport:
        if self._made is None:
            self._made = _transport(self.key, self._asking)
            weakref.finalize(self, self._made.close)
        return self._made

    def _instances(self) -> Instances:
        from jarvislabs.instances import Instances
        from jarvislabs.ssh_keys import SSHKeys

        return Instances(self._transport, SSHKeys(self._transport))

    # ── machines ──────────────────────────────────────────────────────────────────────────────

    def machines(self) -> list[Row]:
        """Every machine of the account, in whatever state."""
        with translated():
            answer = self._transport.request("GET", "users/fetch")
            found = answer.get("instances") if isinstance(answer, dict) else None
            if not isinstance(found, list):
                raise Unreachable("Jarvis Labs does not say which machines there are")
            return rows.parse(found)

    def machine(self, machine: int) -> Row | None:
        """One machine; None when the provider says that there is none of that id."""
        from jarvislabs.exceptions import NotFoundError

        with translated():
            try:
                answer = self._transport.request("GET", f"users/fetch/{machine}")
            except NotFoundError:
                return None
            found = answer.get("instance") if isinstance(answer, dict) else None
            return next(iter(rows.parse([found])), None)

    def failure(self, row: Row) -> str | None:
        """Why a machine does not come up, when the provider says so."""
        from jarvislabs.exceptions import NotFoundError
        from jarvislabs.regions import region_base_url

        with translated():
            try:
                answer = self._transport.request(
                    "GET",
                    "misc/status",
                    params={"machine_id": row.id},
                    base_url=region_base_url(row.region or None),
                )
            except NotFoundError:
                return None  # not known there yet
        if isinstance(answer, dict) and answer.get("status") == rows.FAILED:
            return str(answer.get("error") or "no reason given")
        return None

    def create(self, ask: Ask) -> int:
        """Ask for a machine; its id, as soon as the provider has given it one.

        Whatever is raised, it may have been made: look for its name.
        """
        self._asking.asked = False
        instances = self._instances()
        with translated():
            try:
                if ask.gpu is None:
                    instances.create(
                        template="vm",
                        cpu=True,
                        vcpus=ask.cpus,
                        ram=ask.memory_gib,
                        storage=ask.disk_gib,
                        name=ask.name,
                        region=ask.region,
                    )
                else:
                    instances.create(
                        gpu_type=ask.gpu,
                        num_gpus=ask.count,
                        template=ask.template,
                        storage=ask.disk_gib,
                        name=ask.name,
                        fs_id=ask.filesystem,
                        region=ask.region,
                        is_spot=ask.spot,
                    )
            except Accepted as accepted:
                return accepted.machine
        raise Unreachable("the SDK made a machine and did not say which")

    def resume(self, row: Row, *, name: str, gpu: str | None = None, spot: bool = False) -> int:
        """Wake a paused machine, under another name; its new id. gpu: another kind of GPU."""
        self._asking.asked = False
        instances = self._instances()
        with translated():
            try:
                if row.cpu_vm:
                    instances.resume(row.id, name=name)
                else:
                    instances.resume(row.id, name=name, gpu_type=gpu, is_spot=spot)
            except Accepted as accepted:
                return accepted.machine
        raise Unreachable("the SDK woke a machine and did not say which")

    def pause(self, row: Row) -> None:
        """Ask for a pause; returns on acceptance, which is not yet its end."""
        self._ask(row, "pause")

    def destroy(self, row: Row) -> None:
        """Ask for the end; returns on acceptance. A machine that is not there is no error."""
        self._ask(row, "destroy")

    def _ask(self, row: Row, what: str) -> None:
        # Not by the SDK's own pause and destroy: those look the machine up first, and cannot read
        # every row; and after a failure they wait, where we look for ourselves.
        from jarvislabs.exceptions import NotFoundError
        from jarvislabs.regions import region_base_url

        with translated():
            try:
                answer = self._transport.request(
                    "POST",
                    _path(row, what),
                    params={"machine_id": row.id},
                    base_url=region_base_url(row.region or None),
                )
            except NotFoundError:
                return
        done = answer.get("success") if isinstance(answer, dict) else None
        if str(done).lower() != "true":
            said = answer.get("message") if isinstance(answer, dict) else answer
            raise Unreachable(f"Jarvis Labs does not {what} machine {row.id}: {said}")

    def rename(self, machine: int, name: str) -> None:
        """Give a machine another name."""
        with translated():
            self._instances().rename(machine, name)

    def pause_request(self, row: Row) -> tuple[str, str]:
        """Method and URL of the call with which a machine can pause itself."""
        from jarvislabs.regions import region_base_url

        base = region_base_url(row.region or None).rstrip("/")
        return "POST", f"{base}/{_path(row, 'pause')}?machine_id={row.id}"

    # ── account ───────────────────────────────────────────────────────────────────────────────

    def balance(self) -> tuple[float, str]:
        """What is left to spend, grants included, and its currency."""
        with translated():
            answer = self._transport.request("GET", "users/balance")
            if not isinstance(answer, dict):
                raise Unreachable("Jarvis Labs does not say what the balance is")
            left = float(answer.get("balance") or 0) + float(answer.get("grants") or 0)
        return left, self.currency()

    def currency(self) -> str:
        """USD or INR, by the account's address."""
        from jarvislabs.account import Account as Resource

        with translated():
            return Resource(self._transport).currency()

    def catalogue(self) -> tuple[list[Gpu], list[Mapping[str, Any]]]:
        """The GPUs there are, region by region, and the plans of machines without one."""
        with translated():
            answer = self._transport.request("GET", "misc/server_meta")
            if not isinstance(answer, dict):
                raise Unreachable("Jarvis Labs does not say what there is to rent")
            found = [_gpu(raw) for raw in answer.get("server_meta") or ()]
            plans = (answer.get("cpu_meta") or {}).get("combinations") or []
        return [gpu for gpu in found if gpu is not None], list(plans)

    def keys(self) -> dict[str, tuple[str, str]]:
        """The account's public SSH keys: text and name by id."""
        with translated():
            answer = self._transport.request("GET", "ssh/")
            if not isinstance(answer, list):
                raise Unreachable("Jarvis Labs does not say which SSH keys there are")
        return {
            str(row["key_id"]): (str(row.get("ssh_key") or ""), str(row.get("key_name") or ""))
            for row in answer
            if isinstance(row, Mapping) and row.get("key_id")
        }

    def add_key(self, public: str, name: str) -> None:
        """Register a public SSH key: machines made from now on accept it."""
        from jarvislabs.ssh_keys import SSHKeys

        with translated():
            SSHKeys(self._transport).add(public, name)

    def remove_key(self, key_id: str) -> None:
        """Take a public SSH key off the account."""
        from jarvislabs.ssh_keys import SSHKeys

        with translated():
            SSHKeys(self._transport).remove(key_id)

    def filesystems(self) -> dict[int, tuple[str, str]]:
        """The account's shared disks: name and region by id."""
        from jarvislabs.filesystems import Filesystems

        with translated():
            found = Filesystems(self._transport).list()
        return {one.fs_id: (one.fs_name or "", one.region or "") for one in found}


def _transport(key: str, asking: _Asking) -> Transport:
    from jarvislabs.transport import Transport

    class Hasty(Transport):
        """Leaves the SDK's own waiting: see the module."""

        def request(self, method: str, path: str, **rest: Any) -> Any:
            makes = path.startswith("templates/") and path.endswith(("/create", "/resume"))
            if makes:
                asking.asked = True
            answer = super().request(method, path, **rest)
            machine = answer.get("machine_id") if makes and isinstance(answer, dict) else None
            if machine:
                raise Accepted(int(machine))
            return answer

    return Hasty(key)


def _path(row: Row, what: str) -> str:
    """Where a machine is paused or destroyed: each sort of machine has a place of its own."""
    if row.cpu_vm:
        return f"templates/vm/cpu/{what}"
    return f"templates/vm/{what}" if row.vm else f"misc/{what}"


def _gpu(raw: Any) -> Gpu | None:
    """One line of the catalogue; None when it lacks what makes it one."""
    from jarvislabs.constants import REGION_URLS
    from jarvislabs.models import ServerMetaGPU

    try:
        row = ServerMetaGPU(**raw)
        memory = float(row.vram) if row.vram else None
    except (TypeError, ValueError):  # pydantic's own error is a ValueError
        return None
    if row.region not in REGION_URLS:
        return None
    free = row.effective_num_free_devices
    return Gpu(
        gpu=row.gpu_type,
        region=row.region,
        kind=row.workload_type,
        price=row.price_per_hour,
        spot_price=row.spot_price,
        free=row.num_free_devices if free is None else free,
        spot_free=row.spot_free_devices if row.spot_price is not None else 0,
        memory_gib=memory,
        cpus=row.cpus_per_gpu,
        ram_gib=row.ram_per_gpu,
    )
