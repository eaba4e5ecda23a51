from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.models.known_answer import NAMES, KnownAnswer, build, predictor
from tests.unit.models.known_answer import llama

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Built:
    """A checkpoint that was written, read back, and its prediction."""

    name: str
    path: Path
    config: Mapping[str, float]
    weights: Mapping[str, llama.Array]
    expected: KnownAnswer


@pytest.fixture(scope="package", params=NAMES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    path = build(request.param, tmp_path_factory.mktemp("known-answer"))
    config = json.loads((path / "config.json").read_text())
    return Built(request.param, path, config, llama.load(path), predictor(request.param))
