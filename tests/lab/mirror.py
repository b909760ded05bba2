"""Where guests get Debian from: the host's own apt sources, or MESHKEEP_LAB_MIRROR."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from .progress import LabError

APT = Path("/etc/apt")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
COMPONENTS = "main contrib"


def deb822_entries(text: str) -> Iterator[tuple[str, str]]:
    """(URI, suite) pairs of a .sources file."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line.startswith(("#", " ", "\t")):
                fields[name.strip().lower()] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield uri, suite


def one_line_entries(text: str) -> Iterator[tuple[str, str]]:
    """(URI, suite) pairs of a sources.list."""
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line.strip())
        if match:
            yield match[1], match[2]


def host_entries(apt: Path = APT) -> list[tuple[str, str]]:
    entries: list[tuple[str, str]] = []
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        entries += deb822_entries(path.read_text())
    for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        if path.exists():
            entries += one_line_entries(path.read_text())
    return [(uri.rstrip("/"), suite) for uri, suite in entries]


def mirrors(entries: list[tuple[str, str]], override: str | None) -> tuple[str, str]:
    """The main and the security archive: on a mirror they lie side by side."""
    main = override or next((uri for uri, _ in entries if uri.endswith("/debian")), None)
    if main is None:
        raise LabError(
            "no Debian archive among this host's apt sources; set MESHKEEP_LAB_MIRROR=http://HOST/debian"
        )
    security = next((uri for uri, suite in entries if suite.endswith("-security") and "debian" in uri), None)
    if override or security is None:
        security = main.rstrip("/").removesuffix("debian") + "debian-security"
    return main.rstrip("/"), security


def source_lines(suite: str) -> list[str]:
    """One-line sources for the suite, its updates and its security fixes."""
    main, security = mirrors(host_entries(), os.environ.get("MESHKEEP_LAB_MIRROR"))
    signed = f"[signed-by={KEYRING}]"
    return [
        f"deb {signed} {main} {suite} {COMPONENTS}",
        f"deb {signed} {main} {suite}-updates {COMPONENTS}",
        f"deb {signed} {security} {suite}-security {COMPONENTS}",
    ]
