"""`--vllm-python /path` instead of `--vllm-python=/path`: why that is refused.

pytest looks for its ini file before it knows the options of plugins, and takes the words after
them for test paths: an existing path outside of the project then moves the root directory
there, and the project's ini file, with all that it says, is silently not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pytest_vllm.settings import OPTIONS

_INI_FILES: tuple[str, ...] = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")
_INI_FILES += ("pyproject.toml", "tox.ini", "setup.cfg")


def complaint(arguments: Sequence[str], here: Path, ini_file: Path | None) -> str | None:
    """What to tell the user; None if the arguments did no harm.

    Args:
        arguments: The command line as it was given.
        here: The directory where pytest was started.
        ini_file: The ini file that pytest found, if any.
    """
    above = (here, *here.parents)
    if ini_file is not None and ini_file.parent in above:
        return None
    lost = next((d / name for d in above for name in _INI_FILES if (d / name).is_file()), None)
    takes_value = {option.cli for option in OPTIONS if not option.is_flag}
    for option, value in pairwise(arguments):
        if lost and option in takes_value and (here / value).exists():
            return (
                f"Write {option}={value} (with `=`). With a space, pytest takes {value} for a "
                f"path of tests, looks for its settings there, and does not read {lost}."
            )
    return None
