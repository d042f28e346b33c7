"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the public data sets, for tests marked `data`."""
    root = os.environ.get("DECONREC_DATA")
    if not root:
        pytest.skip("needs DECONREC_DATA")
    return Path(root)
