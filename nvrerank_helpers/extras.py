"""The optional parts of the package, and what is said when one of them is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager


class ExtraNotInstalled(ImportError):
    """A part of the package was asked for whose extra is not installed."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what an extra of the package brings; where it is missing, say how it is installed.

    Args:
        name: The extra, as in `pyproject.toml`.

    Raises:
        ExtraNotInstalled: An import in the body failed.

    Example:
        >>> with extra("ray"):  # doctest: +ELLIPSIS
        ...     import a_module_that_is_not_there
        Traceback (most recent call last):
        nvrerank_helpers.extras.ExtraNotInstalled: This needs the extra `ray` of nvrerank-helpers ...
    """
    try:
        yield
    except ImportError as error:
        raise ExtraNotInstalled(
            f"This needs the extra `{name}` of nvrerank-helpers ({error}). In a clone of the course:  make extras  and "
            f"restart the kernel. Elsewhere:  pip install 'nvrerank-helpers[{name}]'"
        ) from error
