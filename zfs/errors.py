"""One class per cause. Each says what it leaves behind; errno is translated per call in the door."""


class ZfsError(Exception):
    """Something ZFS refused or failed at. `name` is the dataset, snapshot or pool it is about."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail or (self.__doc__ or '').splitlines()[0]}")
        self.name = name
        self.detail = detail


class NotFound(ZfsError):
    """There is no such pool, dataset, snapshot or bookmark. Nothing was changed."""


class AlreadyExists(ZfsError):
    """The name is taken. Nothing was changed."""


class Busy(ZfsError):
    """In use: held, cloned, mounted with open files, or being received into. Nothing was changed."""


class Held(Busy):
    """A hold keeps this snapshot. Nothing was changed."""


class NoSpace(ZfsError):
    """The pool, quota or reservation leaves no room. A resumable receive keeps what arrived."""


class NotPermitted(ZfsError):
    """This process may not do that. Nothing was changed."""


class ReadOnly(ZfsError):
    """The pool or dataset is read-only. Nothing was changed."""


class PoolUnavailable(ZfsError):
    """The pool is suspended, faulted or not imported. What was under way may hang in the kernel."""


class BadStream(ZfsError):
    """The stream is damaged, cut short or of another kind. A resumable receive keeps what arrived."""


class StreamMismatch(ZfsError):
    """The stream does not fit the target's newest snapshot. Nothing was changed."""


class DestinationModified(ZfsError):
    """The target changed since its newest snapshot. Nothing was changed."""


class KeyUnavailable(ZfsError):
    """The dataset's encryption key is not loaded. Nothing was changed."""


class WrongKey(ZfsError):
    """The key or passphrase does not open this dataset. Nothing was changed."""


class Unsupported(ZfsError):
    """This version of OpenZFS, or this pool's features, cannot do it. Nothing was changed."""


class NotStarted(ZfsError):
    """The command could not be started: this host lacks memory, processes or open files. Nothing was changed."""


class Unexpected(ZfsError):
    """An error with no class of its own; the detail carries ZFS's own words."""
