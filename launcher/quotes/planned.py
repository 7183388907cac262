"""The quote of one plan: what the offer it settled on comes to."""

from __future__ import annotations

from backends.errors import FtlaunchError
from launcher.planning import Prepared
from launcher.quotes import quote, workload
from launcher.quotes.market import Priced
from launcher.quotes.quote import Quote


def quoted(prepared: Prepared, *, upload_bytes: int = 0) -> Quote | str | None:
    """What it comes to; a sentence where that cannot be estimated, None where nobody would ask.

    upload_bytes  that travel from this computer
    """
    if prepared.offer.gpu is None or prepared.request.only is not None:
        return None
    try:
        work = workload.of(prepared.recipe)
    except FtlaunchError as error:
        return error.message
    priced = Priced(prepared.backend_spec, prepared.offer)
    hub = prepared.model is None and not workload.has_model(prepared.recipe)
    (found,) = quote.all_of(work, [priced], upload_bytes=upload_bytes, hub=hub)
    if found.fits == "unknown":
        return f"no figures are known of a GPU called {prepared.offer.gpu!r}"
    return found
