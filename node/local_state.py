"""Small facts that belong to this host alone: where peers were once reached, the terms of a vault, and which datasets
are being restored, and what drills made and proved."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
        self._drills = path / "drills.json"
        self._proven = path / "proven.json"
        self._drilled = path / "drilled.json"
        self._verified = path / "verified.json"
        self._heard = path / "heard.json"
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

    def drills(self) -> frozenset[str]:
        """Datasets that drills made here and have not destroyed yet."""
        return frozenset(json.loads(self._drills.read_text())) if self._drills.exists() else frozenset()

    def begin_drill(self, scratch: str) -> None:
        """Durable when this returns, and before *scratch* is made: what is not written here is never destroyed."""
        write_durably(self._drills, json.dumps(sorted({*self.drills(), scratch})).encode())

    def end_drill(self, scratch: str) -> None:
        """It is destroyed."""
        write_durably(self._drills, json.dumps(sorted(self.drills() - {scratch})).encode())

    def proven(self, dataset: str, node: str) -> int | None:
        """When (epoch seconds) a drill last read the copy of *dataset* on *node* with its key; None for never."""
        found = self._all_proven().get(f"{node}:{dataset}")
        return None if found is None else int(found["at"])

    def save_proven(self, dataset: str, node: str, facts: Mapping[str, int | str]) -> None:
        """What a drill proved. `facts` has "at", in epoch seconds."""
        known = {**self._all_proven(), f"{node}:{dataset}": dict(facts)}
        write_durably(self._proven, json.dumps(known, sort_keys=True).encode())

    def drilled(self, dataset: str, node: str) -> Mapping[str, Any]:
        """How the last drill went that was tried: "at" in epoch seconds, "state", "why", and what else it noted."""
        found: Mapping[str, Any] = self._read(self._drilled).get(f"{node}:{dataset}", {})
        return found

    def save_drilled(self, dataset: str, node: str, facts: Mapping[str, Any]) -> None:
        """Replaces what was noted before, but for "since", when the first one was first wanted."""
        known = self._read(self._drilled)
        key = f"{node}:{dataset}"
        kept = {"since": known[key]["since"]} if "since" in known.get(key, {}) else {}
        write_durably(self._drilled, json.dumps({**known, key: {**kept, **facts}}, sort_keys=True).encode())

    def verified(self) -> Mapping[str, int]:
        """When (epoch seconds) the key of each encryption root here was last tried and found right."""
        found: dict[str, int] = json.loads(self._verified.read_text()) if self._verified.exists() else {}
        return found

    def save_verified(self, root: str, at: int) -> None:
        """It opened *root*."""
        write_durably(self._verified, json.dumps({**self.verified(), root: at}, sort_keys=True).encode())

    def proven_facts(self, dataset: str, node: str) -> Mapping[str, Any]:
        """What that drill noted: "bytes_read", "files", "compared", "seed"; empty for never."""
        return self._all_proven().get(f"{node}:{dataset}", {})

    def heard(self, oids: Iterable[str], now: int) -> Mapping[str, int]:
        """When (epoch seconds) each was first asked about here: *now* for a new one. Others are forgotten."""
        known: dict[str, int] = json.loads(self._heard.read_text()) if self._heard.exists() else {}
        found = {oid: min(now, known.get(oid, now)) for oid in oids}
        if found != known:
            write_durably(self._heard, json.dumps(found, sort_keys=True).encode())
        return found

    def _all_proven(self) -> dict[str, dict[str, Any]]:
        return self._read(self._proven)

    @staticmethod
    def _read(path: Path) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        return found
