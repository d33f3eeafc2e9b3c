"""Whatever holds connections closes them at the end of its `with` or `async with` block."""

from abc import ABC, abstractmethod
from typing import Self


class ClosesConnections(ABC):
    """A context manager, sync and async, over `close` and `aclose`."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections; the async twin of `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
