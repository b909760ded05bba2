"""Small facts that belong to this host alone: where peers were once reached, the terms of a vault, and which datasets
are being restored."""

import json
from collections.abc import Mapping
from pathlib import Path

from mesh.endpoints import Endpoint
from mesh.invite import VaultTerms
from mesh.store import write_durably

HINTS_PER_NODE = 3


class LocalState:
    """Files below *path*, each rewritten as a whole."""

    def __init__(self, path: Path) -> None:
        self._hints = path / "hints.json"
        self._terms = path / "vault.json"
        self._restoring = path / "restoring.json"
        self._known: dict[str, tuple[Endpoint, ...]] | None = None

    def hints(self) -> Mapping[str, tuple[Endpoint, ...]]:
        """Endpoints by node id, newest first."""
        if self._known is None:
            raw = json.loads(self._hints.read_text()) if self._hints.exists() else {}
            self._known = {node: tuple(Endpoint(*one) for one in found) for node, found in raw.items()}
        return self._known

    def add_hint(self, node: str, endpoint: Endpoint) -> None:
        """Remember that *node* was reached there."""
        known = dict(self.hints())
        others = [one for one in known.get(node, ()) if one != endpoint]
        known[node] = (endpoint, *others)[:HINTS_PER_NODE]
        raw = {name: [[one.host, one.port] for one in found] for name, found in known.items()}
        write_durably(self._hints, json.dumps(raw).encode())
        self._known = known

    def terms(self) -> VaultTerms | None:
        """What this vault granted when it joined; None on other nodes."""
        return VaultTerms(*json.loads(self._terms.read_text())) if self._terms.exists() else None

    def save_terms(self, terms: VaultTerms) -> None:
        """Once, at the join; later only the vault's own console changes them."""
        write_durably(self._terms, json.dumps([terms.under, terms.quota, terms.floor_days]).encode())

    def restoring(self) -> frozenset[str]:
        """Datasets whose restore has begun and not ended: nothing else may touch them."""
        return frozenset(json.loads(self._restoring.read_text())) if self._restoring.exists() else frozenset()

    def begin_restore(self, dataset: str) -> None:
        """Durable when this returns."""
        write_durably(self._restoring, json.dumps(sorted({*self.restoring(), dataset})).encode())

    def end_restore(self, dataset: str) -> None:
        """It is whole, or nothing of it is there."""
        write_durably(self._restoring, json.dumps(sorted(self.restoring() - {dataset})).encode())
