"""A loopback Modal: a control plane that the unmodified SDK and command line talk to.

    with Cloud(folder) as cloud:
        ... the environment variables of `cloud.environ` ...

It runs as a process of its own (`python -m clouds.modal FOLDER`), keeps volumes on disk, and runs
the SDK's own container entrypoint as real processes. It is unkind where Modal is:

- a container sees a private copy of a volume, as it was committed when the container began or last
  reloaded; what it writes is seen by nobody else before a commit, or a background commit;
- what was not committed is lost when the container is killed; a preemption is SIGINT, a grace, then
  SIGKILL, and the call begins again on the same input;
- `reload` fails while a file of the volume is open in the container;
- a cancel arrives with a heartbeat, as an exception in the middle of whatever runs;
- an attempt ends at its time limit, whatever it is at; retries follow the function's own policy;
- a call waits in the queue for as long as there is no capacity;
- a cluster's containers begin in any order and wait for the last of them, all of them billed; each
  gets the input, and only rank 0 is heard; one that fails, or is gone, is told to nobody; one that
  is preempted takes all the others with it, without a warning;
- any RPC may be refused, delayed, dropped before or after it was done (`Cloud.fail`).
"""
