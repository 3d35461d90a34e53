"""The files that the scenarios speak of, made once."""

import pytest

from tests.golden import files


@pytest.fixture(scope="session")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `${images}` and the other names of the transcripts stand for."""
    return files.build(tmp_path_factory.mktemp("golden"))
