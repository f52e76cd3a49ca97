"""What the tests of the engine share: small networks, whose size decides nothing here."""

from __future__ import annotations

import pytest

from napari_d3ip.methods import untrained


@pytest.fixture(autouse=True)
def _narrow_untrained_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrained, "_WIDTH", 8)
