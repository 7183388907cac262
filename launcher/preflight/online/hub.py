"""The Hugging Face hub, asked by its own client; what it answers, as verdicts.

Read in huggingface_hub 1.x, where a verdict comes from:
- `utils/_http.py`, `hf_raise_for_status`: the header X-Error-Code says GatedRepo, RepoNotFound or
  RevisionNotFound; 401 stands for what is missing, private or gated where no token was shown, and
  for a token that is not accepted, with which even public repositories are refused.
- `hf_api.py`: `auth_check` (GET /api/models/ID/auth-check), `model_info` with a revision, and
  `whoami` (GET /api/whoami-v2), which the hub limits more than the rest.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx
import huggingface_hub
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from launcher import __version__
from launcher.preflight.online.account import Account, account
from launcher.preflight.online.asking import Silent
from launcher.preflight.online.silence import silence, undecided
from launcher.preflight.online.verdicts import Said, Verdict

if TYPE_CHECKING:
    from launcher.preflight.online.run import Key
    from launcher.preflight.online.subjects import Repo


class Hub:
    """The hub at one address. Its methods raise Silent where there is no answer to go by.

    Closed at the end of its `with`, also under a question that still waits.
    """

    def __init__(self, endpoint: str, host: str, patience_s: float) -> None:
        self.host = host
        self._patience_s = patience_s
        # The client's own session waits for ever; it offers no other seam for this than a factory.
        self._session = httpx.Client(timeout=patience_s, follow_redirects=True)
        huggingface_hub.set_client_factory(lambda: self._session)
        self._api = huggingface_hub.HfApi(
            endpoint, token=False, library_name="ftlaunch", library_version=__version__
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        huggingface_hub.set_client_factory(lambda: httpx.Client(follow_redirects=True))
        self._session.close()

    def may_read(self, repo: Repo, key: Key | None) -> Said:
        """Whether the repository can be downloaded with that token, or with none."""
        token = _token(key)
        try:
            self._api.auth_check(repo.id, repo_type=repo.kind, token=token)
        except HFValidationError as error:
            return Said(Verdict.MISSING, str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return self._said(error, shown=key is not None)
        return Said(Verdict.OPEN)

    def has_revision(self, repo: Repo, key: Key | None) -> Said:
        """Whether the repository has the branch, tag or commit that it is pinned to."""
        ask = self._api.dataset_info if repo.kind == "dataset" else self._api.model_info
        try:
            ask(repo.id, revision=repo.revision, expand=["sha"], token=_token(key))
        except HFValidationError as error:
            return Said(Verdict.MISSING, str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return self._said(error, shown=key is not None)
        return Said(Verdict.OPEN)

    def who(self, key: Key) -> Account | Said:
        """Whose token it is, and what it may do."""
        try:
            return account(self._api.whoami(token=key.value))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return self._said(error, shown=True)
        except (ValueError, TypeError, AttributeError) as error:
            raise Silent("answered what nobody understands") from error

    def _said(self, error: Exception, *, shown: bool) -> Said:
        """What an error of the client stands for.

        shown  a token was shown
        Raises Silent for what says nothing about the repository or the token.
        """
        if not isinstance(error, HfHubHTTPError):
            raise silence(error, self._patience_s) from error
        status = error.response.status_code
        words = error.server_message or error.response.headers.get("X-Error-Message") or ""
        if isinstance(error, GatedRepoError):
            return Said(Verdict.GATED, words)
        if shown and status == 401:
            return Said(Verdict.REFUSED, words)
        if isinstance(error, DisabledRepoError):
            return Said(Verdict.DISABLED, words)
        if isinstance(error, RevisionNotFoundError):
            return Said(Verdict.NO_REVISION, words)
        if isinstance(error, RepositoryNotFoundError) or status == 401:
            return Said(Verdict.MISSING, words)
        if status == 403:
            return Said(Verdict.FORBIDDEN, words)
        raise undecided(status) from error


def _token(key: Key | None) -> str | bool:
    """False, not None: with None the client takes the machine's own login, which may not travel."""
    return False if key is None else key.value
