"""From what ZFS says of a failure (exception of libzfs_core, errno, line on stderr) to `zfs.errors`. Pure.

libzfs_core's exceptions are known here by name, so that this table can be read and tested without it.
"""

import errno
import re
from collections.abc import Mapping

from zfs import errors
from zfs.errors import ZfsError

_ZFS_ERR = 1024
"""The errnos that ZFS adds to those of the system count from here (include/sys/fs/zfs.h)."""

BY_ERRNO: Mapping[int, type[ZfsError]] = {
    errno.ENOENT: errors.NotFound,
    errno.EEXIST: errors.AlreadyExists,
    errno.EBUSY: errors.Busy,
    errno.ENOSPC: errors.NoSpace,
    errno.EDQUOT: errors.NoSpace,
    errno.EPERM: errors.NotPermitted,
    errno.EACCES: errors.KeyUnavailable,
    errno.EROFS: errors.ReadOnly,
    errno.EAGAIN: errors.PoolUnavailable,
    errno.ENXIO: errors.PoolUnavailable,
    errno.EXDEV: errors.StreamMismatch,
    errno.ENODEV: errors.StreamMismatch,
    errno.ETXTBSY: errors.DestinationModified,
    errno.EBADE: errors.BadStream,
    errno.EPIPE: errors.BadStream,
    errno.EINTR: errors.BadStream,
    errno.ENOTSUP: errors.Unsupported,
    _ZFS_ERR + 5: errors.Unsupported,  # ZFS_ERR_IOC_CMD_UNAVAIL
    _ZFS_ERR + 6: errors.Unsupported,  # ZFS_ERR_IOC_ARG_UNAVAIL
    _ZFS_ERR + 10: errors.StreamMismatch,  # ZFS_ERR_FROM_IVSET_GUID_MISSING
    _ZFS_ERR + 11: errors.StreamMismatch,  # ZFS_ERR_FROM_IVSET_GUID_MISMATCH
    _ZFS_ERR + 12: errors.Unsupported,  # ZFS_ERR_SPILL_BLOCK_FLAG_MISSING
    _ZFS_ERR + 13: errors.Unsupported,  # ZFS_ERR_UNKNOWN_SEND_STREAM_FEATURE
    _ZFS_ERR + 14: errors.PoolUnavailable,  # ZFS_ERR_EXPORT_IN_PROGRESS
    _ZFS_ERR + 16: errors.BadStream,  # ZFS_ERR_STREAM_TRUNCATED
    _ZFS_ERR + 17: errors.StreamMismatch,  # ZFS_ERR_STREAM_LARGE_BLOCK_MISMATCH
    _ZFS_ERR + 23: errors.Busy,  # ZFS_ERR_RESUME_EXISTS
    _ZFS_ERR + 24: errors.Unsupported,  # ZFS_ERR_CRYPTO_NOTSUP
}

BY_EXCEPTION: Mapping[str, type[ZfsError]] = {
    "BadStream": errors.BadStream,
    "BookmarkExists": errors.AlreadyExists,
    "BookmarkMismatch": errors.StreamMismatch,
    "BookmarkNotSupported": errors.Unsupported,
    "DatasetBusy": errors.Busy,
    "DatasetExists": errors.AlreadyExists,
    "DatasetNotFound": errors.NotFound,
    "DestinationModified": errors.DestinationModified,
    "EncryptionKeyInvalid": errors.WrongKey,
    "EncryptionKeyNotLoaded": errors.KeyUnavailable,
    "FeatureNotSupported": errors.Unsupported,
    "FilesystemExists": errors.AlreadyExists,
    "FilesystemNotFound": errors.NotFound,
    "HoldNotFound": errors.NotFound,
    "NoSpace": errors.NoSpace,
    "ParentNotFound": errors.NotFound,
    "PoolNotFound": errors.NotFound,
    "QuotaExceeded": errors.NoSpace,
    "ReadOnlyPool": errors.ReadOnly,
    "SnapshotExists": errors.AlreadyExists,
    "SnapshotIsCloned": errors.Busy,
    "SnapshotIsHeld": errors.Held,
    "SnapshotMismatch": errors.StreamMismatch,
    "SnapshotNotFound": errors.NotFound,
    "StreamFeatureIncompatible": errors.Unsupported,
    "StreamFeatureInvalid": errors.BadStream,
    "StreamFeatureNotSupported": errors.Unsupported,
    "StreamMismatch": errors.StreamMismatch,
    "StreamTruncated": errors.BadStream,
    "SuspendedPool": errors.PoolUnavailable,
}


def of_exception(error: Exception, name: str) -> ZfsError:
    """The error of ours for one of libzfs_core's (not a compound one) about *name*."""
    number = getattr(error, "errno", None) or 0
    known = BY_EXCEPTION.get(type(error).__name__) or BY_ERRNO.get(number, errors.Unexpected)
    # ZFSGenericError of pyzfs 2.3.9 is made with name and message exchanged: the text is the words.
    said = (getattr(error, "message", None), getattr(error, "name", None))
    words = [one for one in said if isinstance(one, str)]
    return known(name, f"{words[0]} (errno {number})" if words else str(error))


# The first that matches counts; the words are those of libzfs (libzfs_util.c, libzfs_crypto.c) and cmd/zfs.
_SAID: tuple[tuple[str, type[ZfsError]], ...] = (
    (r"Incorrect key provided|Passphrase too (short|long)|Invalid hex|key too (short|long)", errors.WrongKey),
    (r"does not exist|no such pool|could not find any|dataset not found", errors.NotFound),
    (r"already exists|dataset exists|filesystem exists", errors.AlreadyExists),
    (r"out of space|No space left|quota exceeded|disk quota", errors.NoSpace),
    (r"key.* (not loaded|unavailable|must be loaded)|encryption key not|Key must be", errors.KeyUnavailable),
    (r"permission denied|Operation not permitted|must be (superuser|root)", errors.NotPermitted),
    (r"read-only file ?system|(pool|dataset) is read-only", errors.ReadOnly),
    (r"I/O is currently suspended|pool is unavailable|pool I/O failures", errors.PoolUnavailable),
    (r"is busy|has children|has dependent clones|currently mounted|in use", errors.Busy),
    (r"invalid backup stream", errors.BadStream),
    (r"not supported|unsupported|feature not enabled|module.* not loaded", errors.Unsupported),
)


def of_stderr(text: str, name: str) -> ZfsError:
    """The error of ours for what a zfs command printed about *name*."""
    detail = " ".join(text.split())
    for pattern, known in _SAID:
        if re.search(pattern, detail, re.IGNORECASE):
            return known(name, detail)
    return errors.Unexpected(name, detail or "the command failed without a word")
