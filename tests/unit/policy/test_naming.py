"""Names of snapshots: made, read, and told from other people's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.naming import Autosnap, kind_of, parse, snapshot_name
from policy.rules import KINDS, Kind


def test_a_name_has_sanoids_form_in_utc() -> None:
    assert snapshot_name("hourly", 1793664000) == "autosnap_2026-11-03_00:00:00_hourly"


@given(st.sampled_from(KINDS), st.integers(0, 2**33))
def test_what_is_named_is_read_back(kind: Kind, now: int) -> None:
    assert parse(snapshot_name(kind, now)) == Autosnap(kind, now)


def test_a_name_from_sanoids_repeated_hour_is_adopted() -> None:
    assert kind_of("autosnap_2026-10-25_01:00:00dst_hourly") == "hourly"


@pytest.mark.parametrize(
    "name",
    [
        "manual",
        "manual_hourly",
        "autosnap_foo_hourly",
        "autosnap_2026-11-03_00:00:00_family",
        "autosnap_2026-11-03_00:00:00_hourly_keep",
        "autosnap_2026-02-30_00:00:00_hourly",
        "autosnap_2026-11-03_24:00:00_hourly",
        "autosnap_2026-11-03_00:00:00_hourly\n",
        "autosnap_٢٠٢٦-11-03_00:00:00_hourly",
        "xautosnap_2026-11-03_00:00:00_hourly",
        "autosnap_2026-11-03_00:00:00_Hourly",
        "meshkeep_base_1",
        "",
    ],
)
def test_any_other_name_is_not_ours(name: str) -> None:
    assert kind_of(name) is None
