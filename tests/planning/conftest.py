"""One world and one plan of it, for the tests that only read."""

from __future__ import annotations

import pytest

from tests.generators.worlds import Planned, World, planned, world


@pytest.fixture(scope="session")
def questions() -> World:
    """330 questions in two tasks and 40 texts."""
    return world()


@pytest.fixture(scope="session")
def drawn(questions: World, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A plan of 120 of these documents."""
    return planned(tmp_path_factory.mktemp("planned"), questions, budget=120)
