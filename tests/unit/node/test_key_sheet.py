"""A key that is a file goes onto paper, and nowhere where others read; one that is typed cannot be had."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from node import client, key_sheet
from node.cli import main
from node.errors import Exit, MeshkeepError

RAW = bytes(range(32))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the agent says of tank/home's key; it is raw, in a file."""
    (tmp_path / "raw").write_bytes(RAW)
    one = {"root": "tank", "format": "raw", "location": f"file://{tmp_path}/raw", "verified": None}

    def call(verb: str, args: dict[str, Any]) -> dict[str, Any]:
        assert (verb, args) == ("key.status", {"dataset": "tank/home"})
        return {"keys": [one] if one else []}

    monkeypatch.setattr(client, "call", call)
    return one


class TestExport:
    def test_a_raw_key_in_hex_with_its_check(
        self, agent: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["key", "export", "tank/home"]) == 0
        out = capsys.readouterr().out
        assert RAW.hex() in out.replace(" ", "").replace("\n", "")
        assert key_sheet.FileKey("tank", "raw", Path(), RAW.hex()).check in out
        assert "KEY OF tank" in out
        assert "xxd -r -p" in out

    def test_into_a_file_of_ones_own(
        self, agent: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = os.umask(0)
        try:
            assert main(["key", "export", "tank/home", "--to", str(tmp_path / "sheet")]) == 0
        finally:
            os.umask(before)
        assert (tmp_path / "sheet").stat().st_mode & 0o777 == 0o600
        assert "0001 0203" in (tmp_path / "sheet").read_text()
        assert "0001 0203" not in capsys.readouterr().out

    def test_nothing_is_written_over_or_through_a_link(self, agent: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "there").write_text("mine")
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        for name in ("there", "link"):
            assert main(["key", "export", "tank/home", "--to", str(tmp_path / name)]) == Exit.REFUSED
        assert (tmp_path / "there").read_text() == "mine"
        assert not (tmp_path / "elsewhere").exists()

    def test_json_never_has_the_key(self, agent: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["key", "export", "tank/home", "--json"]) == 0
        out = capsys.readouterr().out
        assert json.loads(out)["schema"] == "meshkeep.key-export/1"
        assert RAW.hex() not in out

    def test_a_passphrase_that_is_typed_cannot_be_had(
        self, agent: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        agent |= {"format": "passphrase", "location": "prompt"}
        assert main(["key", "export", "tank/home"]) == Exit.REFUSED
        told = capsys.readouterr().err
        assert "ZFS gives no key away" in told
        assert "meshkeep key verify tank" in told

    def test_nor_one_of_what_is_not_encrypted(self, agent: dict[str, Any]) -> None:
        agent.clear()
        assert main(["key", "export", "tank/home"]) == Exit.REFUSED


@pytest.mark.parametrize(
    ("format_", "data", "text"),
    [
        ("hex", b"AB" * 32 + b"\n", "ab" * 32),
        ("passphrase", b"correct horse\nrest", "correct horse"),
        ("raw", RAW, RAW.hex()),
    ],
)
def test_a_key_is_what_zfs_takes_it_for(tmp_path: Path, format_: str, data: bytes, text: str) -> None:
    (tmp_path / "a key").write_bytes(data)
    found = key_sheet.read("tank", format_, f"file://{tmp_path}/a key")
    assert found.text == text


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        *(("raw", RAW + b"\n"), ("raw", b""), ("hex", b"zz" * 32), ("hex", b"ab")),
        *(("passphrase", b"short"), ("passphrase", b"\xff" * 20), ("passphrase", b"cor\x1brect horse")),
    ],
)
def test_what_is_no_key_is_not_printed_as_one(tmp_path: Path, format_: str, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(MeshkeepError) as refused:
        key_sheet.read("tank", format_, f"file://{tmp_path}/key")
    assert refused.value.code == "bad_key_file"
    with pytest.raises(MeshkeepError):
        key_sheet.read("tank", format_, "https://example.org/key")


@pytest.mark.parametrize(("mode", "refused"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_file_that_others_read_is_no_place_to_print_to(tmp_path: Path, mode: int, refused: bool) -> None:
    (tmp_path / "out").write_text("")
    (tmp_path / "out").chmod(mode)
    with open(tmp_path / "out") as file:
        if refused:
            with pytest.raises(MeshkeepError):
                key_sheet.check_output(file.fileno())
        else:
            key_sheet.check_output(file.fileno())


class TestBeforeTheFirstCopy:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
        asked: list[tuple[str, dict[str, Any]]] = []

        def call(verb: str, args: dict[str, Any], **_: Any) -> dict[str, Any]:
            asked.append((verb, args))
            if verb == "key.status":
                return {
                    "keys": [{"root": "tank", "format": "passphrase", "location": "prompt", "verified": None}]
                }
            return {"state": "ok"}

        monkeypatch.setattr(client, "call", call)
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        return asked

    @pytest.mark.parametrize(
        ("typed", "verbs"),
        [("correct horse", ["key.status", "key.verify"]), ("", ["key.status"])],
    )
    def test_the_passphrase_is_asked_for(
        self,
        asked: list[tuple[str, dict[str, Any]]],
        monkeypatch: pytest.MonkeyPatch,
        typed: str,
        verbs: list[str],
    ) -> None:
        monkeypatch.setattr("click.prompt", lambda *_args, **_more: typed)
        assert main(["replicate", "add", "tank/home", "cloud"]) == 0
        assert [verb for verb, _ in asked] == [*verbs, "replicate.add"]

    def test_not_if_told_not_to(self, asked: list[tuple[str, dict[str, Any]]]) -> None:
        assert main(["replicate", "add", "tank/home", "cloud", "--yes"]) == 0
        assert [verb for verb, _ in asked] == ["replicate.add"]
