"""Cases: what can be asked before anything is launched."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from backends.offer import Need
from backends.protocol import Backend
from backends.testing.bench import Bench
from backends.testing.rig import Rig, make


class Looking:
    """`check` and `offers`."""

    def test_is_a_backend(self, rig: Rig) -> None:
        """factory: makes an object that has every verb, and a name."""
        backend = rig.backend()
        assert isinstance(backend, Backend)
        assert backend.name

    def test_check_on_a_good_machine(self, rig: Rig) -> None:
        """check: says whether this backend can be used; here it can."""
        findings = rig.backend().check()
        assert findings
        assert all(finding.ok for finding in findings), findings

    def test_check_raises_nothing(self, rig: Rig, tmp_path: Path) -> None:
        """check: raises nothing; what is wrong is a finding with a hint."""
        occupied = tmp_path / "no folder"
        occupied.write_text("a file stands where the state folder should be")
        bare = make(rig.factory, replace(rig.options, state_dir=occupied, environ={}))
        wrong = [finding for finding in bare.check() if not finding.ok]
        assert wrong, "with no state folder and no environment something must be wrong"
        assert all(finding.subject and finding.hint for finding in wrong), wrong

    def test_offers_without_network(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """offers: with `live=False` no network is touched, and each price says its source."""

        def refuse(*_: object, **__: object) -> NoReturn:
            raise AssertionError("offers(live=False) went to the network")

        backend = rig.backend()
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        offers = backend.offers(Need(), live=False)
        assert offers
        for offer in offers:
            assert offer.backend == backend.name
            assert offer.source
            assert offer.read_at is not None
            assert offer.read_at.tzinfo is not None
            assert offer.price.amount >= 0
            assert offer.count >= 0

    def test_offers_cheapest_first(self, rig: Rig) -> None:
        """offers: cheapest first, all in one currency."""
        prices = [offer.price for offer in rig.backend().offers(Need(), live=False)]
        assert len({price.currency for price in prices}) == 1
        amounts = [price.amount for price in prices]
        assert amounts == sorted(amounts)

    def test_offers_nothing_that_fits(self, rig: Rig) -> None:
        """offers: empty when nothing fits."""
        need = Need(gpus=(("no such gpu", 8),))
        assert list(rig.backend().offers(need, live=False)) == []

    def test_looking_starts_nothing(self, bench: Bench) -> None:
        """check: spends nothing, starts nothing."""
        before = {lease.id for lease in bench.backend.leases()}
        bench.backend.check()
        bench.backend.offers(Need(), live=False)
        assert {lease.id for lease in bench.backend.leases()} <= before
