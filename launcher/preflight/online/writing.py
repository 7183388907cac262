"""What a run uploads to the hub: whether the token that it gets may write there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from launcher.preflight.online.account import Account, Org
from launcher.preflight.online.asking import Question
from launcher.preflight.online.judging import Judged, give_token, has_none
from launcher.preflight.online.verdicts import Said, Verdict
from launcher.wording import shown

if TYPE_CHECKING:
    from launcher.preflight.online.hub import Hub
    from launcher.preflight.online.run import Key, Keys, Run
    from launcher.preflight.online.subjects import Repo
    from launcher.preflight.problem import Look, Problem

WHO = "whoami"
"""One question for all uploads: the hub limits it more than others."""

_STOPS = {
    "hub_model_id": "axolotl stops once the model is loaded",
    "push_dataset_to_hub": "axolotl stops once the data are prepared",
    "trackio_space_id": "axolotl stops when training begins",
}


def questions(repos: Sequence[Repo], hub: Hub, keys: Keys) -> Iterator[tuple[object, Question]]:
    """Whose the token is, where anything is uploaded with one."""
    if repos and keys.hub is not None:
        about = ", ".join(str(repo.key[0]) for repo in repos)
        yield WHO, Question(about, hub.host, partial(hub.who, keys.hub))


def judge(
    look: Look, repos: Sequence[Repo], run: Run, keys: Keys, answers: Mapping[object, object]
) -> Judged:
    """What the account says about what the run will upload."""
    judged = Judged()
    account = answers.get(WHO)
    for repo in repos:
        if keys.hub is None:
            _without_token(look, repo, run, keys, judged)
        elif isinstance(account, Account):
            judged.known.add(repo.key)
            _Writer(look, run, keys.hub, account).judge(repo, judged)
        elif isinstance(account, Said) and account.verdict is Verdict.REFUSED:
            judged.refused = judged.refused or repo.key
    return judged


def _without_token(look: Look, repo: Repo, run: Run, keys: Keys, judged: Judged) -> None:
    """There is nobody to ask about; what is known of this machine is said."""
    what = f"{repo.key[0]} writes to the hub, and {has_none(keys)}"
    if keys.unknown:
        judged.not_checked.append(
            f"{shown(repo.id)}: what {keys.unknown[0]} may write is not known here"
        )
    elif run.here:
        judged.known.add(repo.key)
        what += f"; {_STOPS[str(repo.key[0])]}"
        judged.problems.append(look.error(repo.key, what, give_token(keys)))
    elif keys.logged_in or keys.set_here:
        # The rented machine may be the user's own, and logged in: a warning, as without a network.
        judged.known.add(repo.key)
        judged.problems.append(look.warning(repo.key, what, give_token(keys)))


@dataclass(frozen=True)
class _Writer:
    """Who would write."""

    look: Look
    run: Run
    key: Key
    account: Account

    def judge(self, repo: Repo, judged: Judged) -> None:
        """Whether it may write there."""
        namespace, slash, name = repo.id.rpartition("/")
        if not slash:
            namespace = self.account.name  # what has no owner the hub puts under the token's own
        allowed = self.account.may_write(repo.kind, namespace, f"{namespace}/{name}")
        mine = namespace.casefold() == self.account.name.casefold()
        org = self.account.orgs.get(namespace.casefold())
        if allowed is False:
            judged.problems.append(self._may_not(repo, namespace))
        elif org is not None and org.writes is False:
            judged.problems.append(self._no_role(repo, org))
        elif org is None and not mine and allowed:
            judged.problems.append(self._not_mine(repo, namespace))
        elif not mine and (allowed is None or (org is not None and org.writes is None)):
            judged.not_checked.append(
                f"{shown(repo.id)}: whether {self.key.name} may write there cannot be told from "
                "outside"
            )

    def _may_not(self, repo: Repo, namespace: str) -> Problem:
        name = str(repo.key[0])
        if self.account.role == "read":
            what = f"{self.key.name} may only read, and {name} writes to the hub; {_STOPS[name]}"
        else:
            what = f"{self.key.name} has no right to write to {shown(namespace)}; {_STOPS[name]}"
        fix = f"take a token that may write there: {self.run.hub}/settings/tokens"
        return self.look.error(repo.key, what, fix)

    def _no_role(self, repo: Repo, org: Org) -> Problem:
        name = str(repo.key[0])
        message = (
            f"{shown(self.account.name)} has the role {shown(org.role)} in {shown(org.name)}, "
            f"which may not write there; {_STOPS[name]}"
        )
        own = f"{name}: {self._under(self.account.name, repo)}"
        return self.look.error(repo.key, message, f"ask for the role contributor, or take {own}")

    def _not_mine(self, repo: Repo, namespace: str) -> Problem:
        name = str(repo.key[0])
        orgs = [org.name for org in self.account.orgs.values() if org.writes is not False]
        mine = [self.account.name, *orgs]
        message = (
            f"{name} is under {shown(namespace)}, and {self.key.name} may write to "
            f"{shown(' or '.join(mine))} only; {_STOPS[name]}"
        )
        near = difflib.get_close_matches(namespace, mine, n=1)
        return self.look.error(repo.key, message, f"{name}: {self._under((*near, *mine)[0], repo)}")

    def _under(self, owner: str, repo: Repo) -> str:
        return shown(f"{owner}/{repo.id.rpartition('/')[2]}")
