"""Everything that pytest-vllm raises, in one tree.

    VLLMTestError
    ├── SettingsError        an option, ini key, variable or table entry is wrong
    ├── LaunchError          the server did not come to life; carries its `report`
    │   ├── LauncherUnavailable   no Docker engine, no local vLLM: nothing to launch with
    │   ├── ImageError            the image is missing, or could not be pulled
    │   ├── PreflightRefused      it cannot work, and was not started
    │   └── StartFailed           it was started, and exited, stalled, or was the wrong server
    ├── ServerDied           it was ready once, and is gone
    ├── ChatNotSupported     the server refuses chat: the model has no chat template
    └── Unsupported          the server cannot do what the test is about; the evidence

The message is written for a person: what happened, where, why, and what to do next. All of
them survive pickling, since under pytest-xdist they travel from the controller to a worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SHOWN = " (see the first error of this server)"


def in_one_line(report: str) -> str:
    """A report that was shown in full already, for the tests that it ends as well."""
    headline = report.split("\n", 1)[0].removesuffix(_SHOWN)
    return (headline if len(headline) <= 120 else f"{headline[:117]}...") + _SHOWN


class VLLMTestError(Exception):
    """Base class of all errors of pytest-vllm.

    Attributes:
        diagnosis: Of a server that failed: cause, title, evidence, remedy …, for reports.
    """

    diagnosis: Mapping[str, Any] | None = None


class SettingsError(VLLMTestError):
    """An option, ini key, environment variable or table entry has a wrong value."""


class LaunchError(VLLMTestError):
    """The server did not come to life; `str(error)` is the whole report, in plain words."""


class LauncherUnavailable(LaunchError):
    """There is nothing to launch with: no Docker engine answers and no local vLLM is found."""


class ImageError(LaunchError):
    """The container image is not here and could not be pulled."""


class PreflightRefused(LaunchError):
    """A look before the start found that it cannot work, so it was not tried."""


class StartFailed(LaunchError):
    """The server was started, and then exited, stalled, ran out of time or was another one."""


class ServerDied(VLLMTestError):
    """The server was ready, and died while tests ran."""


class ChatNotSupported(VLLMTestError):
    """The server refuses chat requests because the model has no chat template."""


class Unsupported(VLLMTestError):
    """The server cannot do what the test is about: no verdict. The message is the evidence."""
