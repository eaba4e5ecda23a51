"""What holds for all of the project's own tests."""

from __future__ import annotations

import pytest

#: Seconds: many times what the slowest takes, so that a hang fails with a stack and is not silent.
LIMIT_S = 300


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Limit every test that has no limit of its own."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
