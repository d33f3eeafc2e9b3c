"""Makes `connector` another name of the package under test, so that its tests run on a copy of it too.

The tests in tests/connector write `from connector.errors import RerankError`. This is the very same module object as
`nvrerank_helpers.connector.errors`, or the one of the package that the environment variable NVRERANK_CONNECTOR names.
"""

import os
import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

ALIAS = "connector"
VARIABLE = "NVRERANK_CONNECTOR"


def package_name():
    """Return the real name of the package under test, for code that runs in another process."""
    return os.environ.get(VARIABLE) or "nvrerank_helpers.connector"


class AliasFinder(MetaPathFinder, Loader):
    """Answers an import of the alias, or of a module below it, with the real module."""

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if f"{fullname}.".startswith(f"{ALIAS}.") else None

    def create_module(self, spec):
        module = import_module(package_name() + spec.name.removeprefix(ALIAS))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module):
        """Give the module its own spec back: the import system has just put the alias's in its place."""
        module.__spec__ = module.__spec__.loader_state


def install():
    """Let `import connector` work in this process.

    The finder comes first: the folder tests/connector would be found as a package of that name otherwise.
    """
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, AliasFinder())
