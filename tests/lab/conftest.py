"""A lab may outlive the test that fails in it (a fixture of module scope): keep its logs at that moment."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from .lab import LIVE


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        for lab in list(LIVE):
            lab.keep_logs()
    return report
