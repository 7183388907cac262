"""A loopback Hugging Face hub and a loopback Weights & Biases: what is asked before a launch.

    with Hub() as hub:
        hub.add("owner/model", gated=True)
        hub.account(TOKEN, "me", orgs={"acme": "read"})
        subprocess.run([...], env={**os.environ, "HF_ENDPOINT": hub.url})
    with Wandb() as wandb:
        wandb.account(KEY, "me", teams=["acme"])       # WANDB_BASE_URL

Both answer as the services do, as far as their own clients show it: the hub's header X-Error-Code
and its statuses (huggingface_hub 1.x, `utils/_http.py`; a repository that is missing, private or
gated is 401 to a stranger, and 404 or 403 to an account), `whoami-v2`, and the viewer of W&B's
GraphQL (wandb 0.31, `apis/_generated/operations.py`). Unkind on demand: `mood` is a status to
answer everything with, `nonsense`, `slow` (a moment) or `hang` (until the end). `requests` is what
was asked.
"""

from clouds.hub.hub import Hub
from clouds.hub.wandb import Wandb

__all__ = ["Hub", "Wandb"]
