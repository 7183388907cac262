"""The quote of one plan: what the offer it settled on comes to."""

from __future__ import annotations

from backends.errors import FtlaunchError
from launcher.planning import Prepared
from launcher.quotes import quote, workload
from launcher.quotes.learning import NOTHING, Learned
from launcher.quotes.market import Priced
from launcher.quotes.quote import Quote


def quoted(
    prepared: Prepared, *, upload_bytes: int = 0, learned: Learned = NOTHING
) -> Quote | str | None:
    """What it comes to; a sentence where that cannot be estimated, None where nobody would ask.

    upload_bytes  that travel from this computer
    learned       from earlier runs
    """
    if prepared.offer.gpu is None or prepared.request.only is not None:
        return None
    try:
        work = workload.of(prepared.recipe)
    except FtlaunchError as error:
        return error.message
    priced = Priced(prepared.backend_spec, prepared.offer)
    hub = from_hub(prepared)
    (found,) = quote.all_of(work, [priced], upload_bytes=upload_bytes, hub=hub, learned=learned)
    if found.fits == "unknown":
        return f"no figures are known of a GPU called {prepared.offer.gpu!r}"
    return found


def from_hub(prepared: Prepared) -> bool:
    """Whether the job fetches the base model from a hub."""
    return prepared.model is None and not workload.has_model(prepared.recipe)
