"""What ZFS says of a failure becomes one class per cause, with ZFS's own words kept."""

import errno

import pytest

from zfs import errors
from zfs.causes import BY_ERRNO, BY_EXCEPTION, of_exception, of_stderr


class SnapshotIsHeld(Exception):
    """Named like that of libzfs_core."""


class StreamIOError(Exception):
    """Named like that of libzfs_core, which has only an errno."""

    def __init__(self, number: int) -> None:
        super().__init__(f"[Errno {number}]")
        self.errno = number


class ZFSGenericError(Exception):
    """As pyzfs 2.3.9 makes it: the message in `name`, the name in `message`."""

    errno, name, message = errno.EPERM, "Failed to create snapshot", b"t@a"


def test_the_words_are_kept_where_name_and_message_are_exchanged() -> None:
    error = of_exception(ZFSGenericError(), "t@a")
    assert type(error) is errors.NotPermitted
    assert str(error) == "t@a: Failed to create snapshot (errno 1)"


def test_an_exception_is_known_by_its_name() -> None:
    error = of_exception(SnapshotIsHeld("held"), "t@a")
    assert type(error) is errors.Held
    assert (error.name, error.detail) == ("t@a", "held")


@pytest.mark.parametrize(
    ("number", "known"),
    [
        (errno.EPIPE, errors.BadStream),
        (errno.EPERM, errors.NotPermitted),
        (errno.EACCES, errors.KeyUnavailable),
        (1024 + 11, errors.StreamMismatch),
        (1024 + 16, errors.BadStream),
        (1024 + 23, errors.Busy),
        (errno.EIO, errors.Unexpected),
        (None, errors.Unexpected),
    ],
)
def test_one_without_a_class_is_known_by_its_errno(number: int, known: type[errors.ZfsError]) -> None:
    assert type(of_exception(StreamIOError(number), "t@a")) is known


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("cannot open 'tank/x': dataset does not exist\n", errors.NotFound),
        ("cannot create 'tank/a/b': parent does not exist", errors.NotFound),
        ("cannot create 'nopool/a': no such pool 'nopool'", errors.NotFound),
        ("cannot create 'tank/a': dataset already exists", errors.AlreadyExists),
        ("cannot create 'tank/a': out of space", errors.NoSpace),
        ("Key load error: Incorrect key provided for 'tank/a'.", errors.WrongKey),
        ("Key load error: Passphrase too short (min 8).", errors.WrongKey),
        ("cannot mount 'tank/a': encryption key not loaded", errors.KeyUnavailable),
        ("cannot set property for 'tank/a': permission denied", errors.NotPermitted),
        ("cannot set property for 'tank/a': pool or dataset is busy", errors.Busy),
        ("cannot unmount '/tank/a': pool or dataset is busy", errors.Busy),
        ("cannot create 'tank/a': pool is read-only", errors.ReadOnly),
        ("cannot create 'tank/a': pool I/O is currently suspended", errors.PoolUnavailable),
        ("cannot set property: pool is unavailable", errors.PoolUnavailable),
        ("cannot do this: something never heard of", errors.Unexpected),
        ("", errors.Unexpected),
    ],
)
def test_what_the_command_prints_tells_the_cause(text: str, known: type[errors.ZfsError]) -> None:
    error = of_stderr(text, "tank/a")
    assert type(error) is known
    assert error.name == "tank/a"
    assert text.strip() in error.detail


def test_every_known_cause_is_an_error_of_ours() -> None:
    for known in (*BY_ERRNO.values(), *BY_EXCEPTION.values()):
        assert issubclass(known, errors.ZfsError)
