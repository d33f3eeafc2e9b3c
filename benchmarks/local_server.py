"""The service that all clients ask, a separate process; it is that of the tests, in tests/fakes/number_service.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fakes"))

from number_service import MODEL, NumberService, make_texts

__all__ = ["MODEL", "NumberService", "make_texts"]
