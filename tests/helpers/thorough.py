"""Cases that `make test-full` tries and `make test` leaves out: others of the same kind are tried there."""

import os
from typing import Any

import pytest

EXAMPLES = int(os.environ.get("EXAMPLES", 1))


def thorough(*cases: Any) -> list[Any]:
    """`cases` of a parametrised test, skipped unless everything is asked for."""
    left_out = pytest.mark.skipif(EXAMPLES == 1, reason="make test-full tries it")
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=left_out) for case in cases]
