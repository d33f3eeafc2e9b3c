"""Find what would fail a reader of the web site: dead links, and parts that another host would have to send.

It is written here because the tools for it do more than we want: LinkChecker writes into the home folder and drops its
rights when root runs it, and lychee takes 300 MB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

# What a browser fetches without being asked; the links of an `a` it does not.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data", "link": "href"}


@dataclass(frozen=True)
class Page:
    """The addresses on a page of the site."""

    anchors: frozenset[str]  # names that a link into this page may end with
    links: tuple[str, ...]
    parts: tuple[str, ...]  # what the browser fetches to show the page


def read_page(html: str) -> Page:
    """Read a page's anchors and addresses.

    Example:
        >>> read_page('<h1 id="top">x</h1><a href="b.html#c">b</a><img src="d.svg">').links
        ('b.html#c',)
    """
    soup = BeautifulSoup(html, "html.parser")
    return Page(
        anchors=frozenset(str(tag["id"]) for tag in soup.find_all(id=True)),
        links=tuple(str(tag["href"]) for tag in soup.find_all("a", href=True)),
        parts=tuple(str(tag[FETCHED[tag.name]]) for tag in soup.find_all(list(FETCHED)) if tag.get(FETCHED[tag.name])),
    )


def list_pages(site: Path) -> list[Path]:
    """Return the pages of a built site, without the templates that themes leave in `_static`."""
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts)


def site_problems(site: Path) -> Iterator[str]:
    """Yield every link and part of a built site that leads nowhere, and every part that is on another host.

    Links to other hosts are not followed: nothing here needs a network.
    """
    site = site.resolve()
    pages = {path: read_page(path.read_text(encoding="utf-8")) for path in list_pages(site)}
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for address in sorted({*page.links, *page.parts}):
            if not (urlsplit(address).scheme or urlsplit(address).netloc):
                yield from (f"{name}: {address} {problem}" for problem in _dead(path, address, pages))
            elif address in page.parts and urlsplit(address).scheme != "data":
                yield f"{name}: {address} would be fetched from another host"


def _dead(path: Path, address: str, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield why an address inside the site leads nowhere."""
    inside = urlsplit(address)
    target = (path.parent / unquote(inside.path)).resolve() if inside.path else path
    if not target.is_file():
        yield "leads to no file"
    elif inside.fragment and target in pages and unquote(inside.fragment) not in pages[target].anchors:
        yield "leads to no such place on the page"
