"""The scripts in docker/ are no package: they are loaded from their files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCKER = Path(__file__).parents[3] / "docker"


def load(name: str) -> ModuleType:
    """Import docker/NAME.py under a name that cannot meet the docker SDK's."""
    spec = importlib.util.spec_from_file_location(f"_of_docker_{name}", DOCKER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def installer() -> ModuleType:
    return load("install_engine")


@pytest.fixture(scope="session")
def healthcheck() -> ModuleType:
    return load("healthcheck")


@pytest.fixture(scope="session")
def describe_models() -> ModuleType:
    return load("describe_models")
