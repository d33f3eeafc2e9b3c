"""Reads the words on a page image, so that a passage with an image can be scored like text.

The image arrives as a data URL, checked by the rules of the reranking NIM 2.0
(https://docs.nvidia.com/nim/nemo-retriever/text-reranking/2.0.0/use-the-api-openai.html). rapidocr reads the words with
the PP-OCRv6 models in its wheel, on onnxruntime; nothing is downloaded. A vision model sees more than words: a figure
without text is an empty page here.
"""

import base64
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from nvrerank_helpers.extras import extra
from nvrerank_helpers.minilm import count_cores

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}
"""Documented media types, each with Pillow's name for it. It is our assumption that the bytes may be of another one
than the data URL says."""

MAX_BYTES = 20 * 2**20
"""Ours: no limit for an image is documented. A page as PNG or JPEG has at most a few MiB."""

MAX_PIXELS = 50_000_000
"""Ours: a page of A4 at 600 dots per inch has 35 million. Decoding 50 million takes about half a GB for a moment."""

MAX_SIDE = 2000
"""Pixels: larger pages are scaled down before OCR; A4 then has 171 dots per inch, which is plenty."""

DETECTION_SIDE = 1280
"""Pixels for the detection of lines, which are then read from the page itself. At 2000 it takes twice as long."""

MARGIN = 32
"""Pixels of white around a page: OCR finds words at the edge better, and no side is too short for the models."""


class PageImageError(ValueError):
    """An image that cannot be read; the message says what to send instead."""


@dataclass(frozen=True)
class TextBox:
    """Words on a page that were found together, and where, in pixels from its top left corner."""

    text: str
    left: float
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        """Distance of the words' middle from the top of the page."""
        return (self.top + self.bottom) / 2


class PageReader:
    """Reads page images, each only once; it loads the models when it reads the first page.

    Any thread may call it; one page is read at a time. `cache_mb` is the memory for the words of earlier pages, in MiB.
    """

    def __init__(self, threads: int | None = None, cache_mb: int = 16) -> None:
        self._threads = threads or count_cores()
        self._cache: LRUCache[bytes, str] = LRUCache(cache_mb * 2**20, getsizeof=sys.getsizeof)
        self._lock = Lock()
        self._ocr: Any = None

    def text(self, data_url: str) -> str:
        """Return the lines on a page from top to bottom, read across columns; of several pages, only the first.

        A new page takes a second or more, so never call this on the event loop. It raises `PageImageError` for an
        image that the service doesn't accept, and `ExtraNotInstalled` without the extra `images`.
        """
        content = decode_data_url(data_url)
        key = blake2b(content, digest_size=16).digest()
        with self._lock:
            words = self._cache.get(key)
            if words is None:
                words = self._read(content)
                with suppress(ValueError):  # larger than the whole cache
                    self._cache[key] = words
        return words

    def _read(self, content: bytes) -> str:
        if self._ocr is None:
            self._ocr = _load_ocr(self._threads)
        found = self._ocr(load_page(content))
        if found.txts is None:
            return ""
        boxes = [
            TextBox(text, corners[:, 0].min(), corners[:, 1].min(), corners[:, 1].max())
            for text, corners in zip(found.txts, found.boxes, strict=True)
        ]
        return arrange_lines(boxes)


def decode_data_url(data_url: str) -> bytes:
    """Return the bytes of the image file in a data URL.

    Example:
        >>> decode_data_url("data:image/gif;base64,R0lGODlh")
        b'GIF89a'
    """
    if len(data_url) > MAX_BYTES * 4 / 3 + 100:
        raise PageImageError(f"the image has more than {MAX_BYTES:,} bytes: send a smaller one")
    head, _, content = data_url.partition(",")
    kind, _, encoding = head.partition(";")
    if kind[:5].lower() != "data:":
        raise PageImageError("an image must be a data URL, like data:image/png;base64,…; addresses are not fetched")
    if encoding.lower() != "base64":
        raise PageImageError("the data URL must hold the image as base64; asset references are not accepted")
    if kind[5:].lower() not in FORMATS:
        raise PageImageError(f"{kind[5:55]!a} is not accepted: send one of {', '.join(sorted(FORMATS))}")
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise PageImageError(f"the content of the data URL is not base64 ({error}): encode the file's bytes") from None


def load_page(content: bytes) -> "Image":
    """Decode an image file as a page for OCR: upright, in RGB on white, with a margin, and not too large."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(content), formats=list(FORMATS.values())) as image:
            if image.width * image.height <= MAX_PIXELS:  # known before a pixel is decoded
                return _normalize(image)
    except UnidentifiedImageError:
        raise PageImageError(f"the image is empty, damaged, or none of {', '.join(sorted(FORMATS))}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass  # Pillow's own limit is higher than ours: the error is raised below
    except Exception as error:  # each of Pillow's decoders has other errors for damaged files
        reason = f"{type(error).__name__}: {error}"
        raise PageImageError(f"the image is damaged ({reason}): open it in a viewer and save it again") from error
    raise PageImageError(f"the image has more than {MAX_PIXELS:,} pixels: send a smaller one")


def _normalize(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    # Only JPEG can be decoded at a fraction of its size; for the other formats this does nothing.
    image.draft(None, (MAX_SIDE, MAX_SIDE))
    if image.mode.startswith("I;16"):
        # Without this, all but the darkest shades of gray would become white.
        image = image.point(lambda shade: shade / 256)
    ImageOps.exif_transpose(image, in_place=True)
    rgba = image.convert("RGBA")
    rgba.thumbnail((MAX_SIDE, MAX_SIDE))
    on_white = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return ImageOps.expand(on_white.convert("RGB"), MARGIN, "white")


def arrange_lines(boxes: Iterable[TextBox]) -> str:
    """Arrange the words on a page in lines, from top to bottom and from left to right.

    Two boxes are on one line if their middles differ by less than half the height of the smaller one.

    Example:
        >>> page = [TextBox("below", 0, 30, 40), TextBox("right", 90, 1, 11), TextBox("left", 0, 0, 10)]
        >>> arrange_lines(page).splitlines()
        ['left right', 'below']
    """
    lines: list[list[TextBox]] = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if lines and _share_line(lines[-1][-1], box):
            lines[-1].append(box)
        else:
            lines.append([box])
    return "\n".join(" ".join(box.text for box in sorted(line, key=lambda box: box.left)) for line in lines)


def _share_line(one: TextBox, other: TextBox) -> bool:
    height = min(one.bottom - one.top, other.bottom - other.top)
    return abs(one.middle - other.middle) < height / 2


def _load_ocr(threads: int) -> Any:
    with extra("images"):
        import onnxruntime  # noqa: F401 - rapidocr would report it only later
        import rapidocr
        from rapidocr import RapidOCR
    models = Path(rapidocr.__file__).parent / "models"
    settings = {
        # A model that is given as a file is never downloaded.
        "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
        "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "Det.limit_type": "max",
        "Det.limit_side_len": DETECTION_SIDE,
        # Pages have the right size already. rapidocr would enlarge a thin strip until memory runs out.
        "Global.use_preprocess_img": False,
        # Whether each line is upside down: pages are upright.
        "Global.use_cls": False,
        # No warning about a page without words.
        "Global.log_level": "error",
    }
    return RapidOCR(params=settings)
