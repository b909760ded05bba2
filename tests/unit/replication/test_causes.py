"""Every cause has a code of its own, a remedy, and comes back from its code."""

import pytest

from replication import errors
from replication.errors import Permanent, TransferFailed, Transient, of_code, of_zfs
from zfs import errors as zfs


def causes() -> list[type[TransferFailed]]:
    return [*Transient.__subclasses__(), *Permanent.__subclasses__()]


def zfs_causes() -> list[type[zfs.ZfsError]]:
    return [one for one in vars(zfs).values() if isinstance(one, type) and issubclass(one, zfs.ZfsError)]


def test_codes_are_unique() -> None:
    codes = [cause.code for cause in causes()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("cause", causes())
def test_a_cause_crosses_a_process_border(cause: type[TransferFailed]) -> None:
    error = cause("what happened")
    again = of_code(error.code, error.text)
    assert type(again) is cause
    assert again.text == "what happened"


@pytest.mark.parametrize("cause", causes())
def test_without_words_its_own_docstring_speaks(cause: type[TransferFailed]) -> None:
    assert cause().text.endswith(".")


def test_a_code_from_a_newer_version_is_tried_again() -> None:
    assert type(of_code("from_the_future", "")) is Transient


@pytest.mark.parametrize("cause", zfs_causes())
def test_every_error_of_the_door_has_a_remedy(cause: type[zfs.ZfsError]) -> None:
    assert isinstance(of_zfs(cause("tank")), Transient | Permanent)


def test_what_time_can_heal_is_transient() -> None:
    assert issubclass(errors.TargetFull, Transient)
    assert issubclass(errors.Interrupted, Transient)
    assert issubclass(errors.KeyChanged, Permanent)
    assert issubclass(errors.Diverged, Permanent)
