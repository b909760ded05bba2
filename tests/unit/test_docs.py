"""Docs fail when they lie: every file that the map names exists, every module is named, every command is known."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "architecture.md").read_text()
# What only serves the module beside it, or is a word of its package.
HELPERS = frozenset(
    {
        *("__init__.py", "version.py", "errors.py", "model.py", "names.py", "ports.py", "codec.py"),
        *("causes.py", "command.py", "listing.py", "endpoints.py", "link_errors.py"),
        *("jobs.py", "pace.py", "blocking.py", "silence.py"),
    }
)
PACKAGES = ("zfs", "policy", "replication", "mesh", "node")


def named() -> set[str]:
    """The paths in the tables of the map. A bare name is in the folder that its row names first, else in node."""
    found = set()
    for row in (line for line in MAP.splitlines() if line.startswith("| `")):
        folder = "node"
        for name in re.findall(r"`([\w*]+(?:/[\w*]+)*(?:\.py|/))`", row.split("|")[1]):
            head, slash, _ = name.partition("/")
            folder = head if slash and head in PACKAGES else folder
            found.add(name if slash and head in PACKAGES else f"{folder}/{name}")
    return found


def test_every_room_on_the_map_exists() -> None:
    for name in named():
        assert list(ROOT.glob(name)), name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_of_one_of_the_packages_has_its_room(package: str) -> None:
    rooms = named()
    for path in (ROOT / package).glob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        known = name in rooms or f"{package}/" in rooms or any(Path(name).match(room) for room in rooms)
        assert known or path.name in HELPERS, f"{name} has no room in docs/architecture.md"


def test_every_command_in_the_readme_is_one_of_ours() -> None:
    from node.cli.root import COMMANDS

    text = (ROOT / "README.md").read_text()
    used = set(re.findall(r"(?:^|sudo )meshkeep ([a-z]+)", text, re.MULTILINE))
    assert used
    assert used <= set(COMMANDS)


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)`?", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
