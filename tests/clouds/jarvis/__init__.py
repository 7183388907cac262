"""A loopback Jarvis Labs: its REST interface, and a real machine for each instance.

    with Cloud(tmp_path / "cloud", visible=[Path(sys.base_prefix)]) as cloud:
        subprocess.run([...], env={**os.environ, **cloud.environ})  # another process
        with cloud.patch():                                         # this one
            client = jarvislabs.Client(cloud.key)
        cloud.fail("POST", "misc/destroy", 500)
        cloud.meter.billing()                                        # what bills now

Time. The provider's own delays (`Timings`), its bills and the SDK's sleeps run at `speed`: 20
provider seconds in one of ours, if not told otherwise. What runs on a machine runs as fast as it
can. `cloud.now()` is the provider's time, `cloud.skip(seconds)` lets some pass at once, and
`cloud.meter.after(moment)` is the GPU seconds billed since. A test that looks at what is between
two states makes that last (`Timings(listed=1e5)`) and skips it when it has seen it.

Machines. Each is a PID, mount and host name namespace with an sshd on 127.0.0.1, where that is
allowed (`Cloud.isolation` says what is). It has /usr and /etc of this machine, read-only, folders
of its own (/home, /root, /workspace, /tmp, /var, /opt, ...), and nothing else of this disk but what
`visible` names. `Cloud.files(machine)` is where those folders are. A container's user is root, and
its pause keeps /home; a VM's is `ubuntu`, and it keeps everything. `templates` says what a login
shell finds. The network is this machine's: two machines cannot serve the same port.

Unkindness. `misc/status` does not know a machine at first, the lists even longer; "Running" is not
"reachable"; keys that come after create never arrive; a pause or a destroy is done some time after
it is accepted; a resumed machine has another id and maybe another price; a port is soon another
machine's, with another host key.

Faults. `fail` for calls; `fate` for machines not yet there; `reach`, `cut`, `fill`, `reclaim`,
`dashboard_pause` and `dashboard_destroy` for those that are; `capacity`, `run_dry` and `silence`
for all.

The provider is a process of its own and ends with the one that opened it; its machines end with it.
What is on its disk stays in its folder: opened again, a cloud goes on.
"""

from clouds.jarvis.boxes import lacking
from clouds.jarvis.cloud import Cloud, Fault
from clouds.jarvis.image import Template
from clouds.jarvis.machine import Fate, Machine, Timings
from clouds.jarvis.meter import Bill, Meter

__all__ = ["Bill", "Cloud", "Fate", "Fault", "Machine", "Meter", "Template", "Timings", "lacking"]
