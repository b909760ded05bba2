"""Running programs, and replacing files, for real."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from node.commands import CommandMissing, CommandNotStarted, Commands, CommandTimeout, Result
from node.files import remove, write_atomic
from zfs import command, errors


class TestCommands:
    async def test_what_a_program_says_and_how_it_ends_comes_back(self) -> None:
        result = await Commands().run(["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert result == Result(3, "out\n", "err\n")
        assert (result.ok, result.words) == (False, "err")

    async def test_arguments_are_not_read_by_a_shell(self) -> None:
        assert (await Commands().run(["printf", "%s", "$(id) ; x"])).out == "$(id) ; x"

    async def test_nothing_of_our_environment_leaks_and_there_is_no_input(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/secret")
        result = await Commands().run(["sh", "-c", "cat; env"])
        assert "NOTIFY_SOCKET" not in result.out
        assert "LC_ALL=C\n" in result.out

    async def test_a_program_that_is_not_installed(self) -> None:
        with pytest.raises(CommandMissing) as caught:
            await Commands().run(["no-such-program-here"])
        assert caught.value.program == "no-such-program-here"

    @pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE, errno.EAGAIN])
    async def test_a_host_that_can_start_nothing(self, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        async def refused(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
        with pytest.raises(CommandNotStarted, match="true could not be started") as caught:
            await Commands().run(["true"])
        assert caught.value.why == os.strerror(number)
        with pytest.raises(errors.NotStarted, match=f"tank: zfs could not be started: {os.strerror(number)}"):
            await command.run("tank", "zfs", "list")

    async def test_one_that_takes_too_long_is_killed_with_its_children(self, tmp_path: Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(CommandTimeout):
            await Commands().run(["sh", "-c", f"exec 9>{fifo}; sleep 1000 & sleep 1000"], timeout=0.2)
        # End of file comes when the last process that had it open is gone.
        os.set_blocking(reader, True)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(os.read, reader, 1) == b""
        os.close(reader)

    def test_words_for_an_error_are_never_empty(self) -> None:
        assert Result(4).words == "exit code 4"
        assert Result(4, "out\n").words == "out"


class TestFiles:
    def test_a_file_is_replaced_with_its_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "file"
        write_atomic(path, "one\n")
        write_atomic(path, "zwei ü\n", 0o600)
        assert path.read_text(encoding="utf-8") == "zwei ü\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert os.listdir(path.parent) == ["file"]

    def test_directories_are_made_readable_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            write_atomic(tmp_path / "a" / "b" / "file", "")
        finally:
            os.umask(before)
        modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/file")]
        assert modes == [0o755, 0o755, 0o644]

    def test_a_failure_keeps_the_old_file_and_leaves_no_draft(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        write_atomic(path, "old")
        with pytest.raises(UnicodeEncodeError):
            write_atomic(path, "\udc80")
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["file"]

    def test_removing_says_whether_there_was_something(self, tmp_path: Path) -> None:
        write_atomic(tmp_path / "file", "")
        assert remove(tmp_path / "file")
        assert not remove(tmp_path / "file")
