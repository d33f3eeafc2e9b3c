"""Reads the words on a page image, so that a passage with an image can be scored like text.

The image arrives as a data URL, checked by the rules of the reranking NIM 2.0
(https://docs.nvidia.com/nim/nemo-retriever/text-reranking/2.0.0/use-the-api-openai.html). The words are read by the
PP-OCRv6 models that rapidocr carries in its wheel, on onnxruntime; nothing is downloaded. A vision model sees more
than words: a figure without text is an empty page here.
"""

import base64
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from nvrerank_helpers.extras import extra
from nvrerank_helpers.minilm import ByteCache, available_cores

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
"""Documented media types, each with Pillow's name for it. That the bytes may be another one of these than the data
URL says is our assumption."""

MAX_BYTES = 20 * 2**20
"""Ours: no limit for an image is documented. A page as PNG or JPEG has at most a few MiB."""

MAX_PIXELS = 50_000_000
"""Ours: a page of A4 at 600 dots per inch has 35 million; 50 million take about
half a GB for the moment of decoding."""

MAX_SIDE = 2000
"""Pixels: larger pages are reduced before they are read; A4 then has 171 dots per inch, plenty for OCR."""

DETECTION_SIDE = 1280
"""Pixels at which lines are looked for; they are then read from the page itself. At 2000 it takes twice as long."""

MARGIN = 32
"""Pixels of white put around a page: words at the edge are found better, and no side is too short for the models."""


class PictureError(ValueError):
    """An image that cannot be taken, and what to send in its place."""


@dataclass(frozen=True)
class Box:
    """Words that stand together on a page, and where, in pixels from its top left corner."""

    text: str
    left: float
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        """Distance of the words' middle from the top of the page."""
        return (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Words:
    """What was read on a page, in a form that the cache can weigh."""

    text: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sys.getsizeof(self.text)


class PageReader:
    """Reads page images, each one only once; the models are loaded when the first page is read.

    Any thread may call it: pages are read one at a time, each on all of `threads`, and a page read before is
    answered without waiting.

    Args:
        threads: Cores to use; those that this process may use if None.
        cache_mb: Memory for the words of pages read before, in MiB.

    Example:
        >>> PageReader().text("data:image/svg+xml;base64,PHN2Zy8+")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        nvrerank_helpers.nim_standin.ocr.PictureError: 'image/svg+xml' is not taken: send one of image/bmp, ...
    """

    def __init__(self, threads: int | None = None, cache_mb: int = 16) -> None:
        self._threads = threads or available_cores()
        self._cache: ByteCache[Words] = ByteCache(cache_mb * 2**20)
        self._lock = Lock()
        self._ocr: Any = None

    def text(self, data_url: str) -> str:
        """Read the words on a page; a second or more for a new one, so never call this on the event loop.

        Args:
            data_url: The image, like `data:image/png;base64,…`; of several frames or pages, only the first is read.

        Returns:
            The lines from top to bottom, each on a line of its own; empty where there are no words. Columns are not
            told apart: lines are read across them.

        Raises:
            PictureError: It is no image that the service takes.
            ExtraNotInstalled: The extra `images` is missing.
        """
        content = decoded(data_url)
        key = blake2b(content, digest_size=16).digest()
        words = self._cache.get(key)
        if words is None:
            with self._lock:
                words = self._cache.get(key) or self._read(content)
                self._cache.put(key, words)
        return words.text

    def _read(self, content: bytes) -> Words:
        if self._ocr is None:
            self._ocr = _load_ocr(self._threads)
        found = self._ocr(page(content))
        if found.txts is None:
            return Words("")
        boxes = [
            Box(text, corners[:, 0].min(), corners[:, 1].min(), corners[:, 1].max())
            for text, corners in zip(found.txts, found.boxes, strict=True)
        ]
        return Words(in_reading_order(boxes))


def decoded(data_url: str) -> bytes:
    """Return the bytes in a data URL.

    Args:
        data_url: Media type and content, like `data:image/png;base64,…`.

    Returns:
        The bytes of the image file, as yet unseen.

    Raises:
        PictureError: It is an address, an asset reference or of another encoding or media type, or too large.

    Example:
        >>> decoded("data:image/gif;base64,R0lGODlh")
        b'GIF89a'
    """
    if len(data_url) > MAX_BYTES * 4 / 3 + 100:
        raise PictureError(f"the image has more than {MAX_BYTES:,} bytes: send a smaller one")
    head, _, content = data_url.partition(",")
    kind, _, encoding = head.partition(";")
    if kind[:5].lower() != "data:":
        raise PictureError("an image must be a data URL, like data:image/png;base64,…; addresses are not fetched")
    if encoding.lower() != "base64":
        raise PictureError("the data URL must hold the image as base64; asset references and the like are not taken")
    if kind[5:].lower() not in FORMATS:
        raise PictureError(f"{kind[5:55]!a} is not taken: send one of {', '.join(sorted(FORMATS))}")
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise PictureError(f"the content of the data URL is not base64 ({error}): encode the file's bytes") from None


def page(content: bytes) -> "Image":
    """Decode an image as a page to read: upright, in colours on white, with a margin, and not too large.

    Args:
        content: The bytes of an image file. Its size is checked before a pixel is decoded.

    Returns:
        An RGB image of at most `MAX_SIDE` pixels a side, and the margin.

    Raises:
        PictureError: It is not an image of the kinds taken, or it is damaged or too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(content), formats=list(FORMATS.values())) as image:
            if image.width * image.height <= MAX_PIXELS:
                return _normalised(image)
    except UnidentifiedImageError:
        raise PictureError(f"the image is empty, damaged, or none of {', '.join(sorted(FORMATS))}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass  # Pillow's own limit is higher than ours: what is refused is said below.
    except Exception as error:  # Each of Pillow's decoders has errors of its own for damaged files.
        reason = f"{type(error).__name__}: {error}"
        raise PictureError(f"the image is damaged ({reason}): open it in a viewer and save it anew") from error
    raise PictureError(f"the image has more than {MAX_PIXELS:,} pixels: send a smaller one")


def _normalised(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    # JPEG alone can be decoded at a fraction of its size; for the other formats this does nothing.
    image.draft(None, (MAX_SIDE, MAX_SIDE))
    if image.mode.startswith("I;16"):
        # Without this, every shade of grey but the darkest would become white.
        image = image.point(lambda shade: shade / 256)
    ImageOps.exif_transpose(image, in_place=True)
    coloured = image.convert("RGBA")
    coloured.thumbnail((MAX_SIDE, MAX_SIDE))
    on_white = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return ImageOps.expand(on_white.convert("RGB"), MARGIN, "white")


def in_reading_order(boxes: Iterable[Box]) -> str:
    """Put what was found on a page into lines, from top to bottom and from left to right.

    Args:
        boxes: Words and their places, in any order. Two whose middles differ by less than half the height of the
            lower one stand on one line.

    Returns:
        The text, with a space between boxes and a line break between lines.

    Example:
        >>> page = [Box("below", 0, 30, 40), Box("right", 90, 1, 11), Box("left", 0, 0, 10)]
        >>> in_reading_order(page).splitlines()
        ['left right', 'below']
    """
    lines: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if lines and _on_one_line(lines[-1][-1], box):
            lines[-1].append(box)
        else:
            lines.append([box])
    return "\n".join(" ".join(box.text for box in sorted(line, key=lambda box: box.left)) for line in lines)


def _on_one_line(one: Box, other: Box) -> bool:
    height = min(one.bottom - one.top, other.bottom - other.top)
    return abs(one.middle - other.middle) < height / 2


def _load_ocr(threads: int) -> Any:
    with extra("images"):
        import onnxruntime  # noqa: F401 - rapidocr would miss it only later
        import rapidocr
        from rapidocr import RapidOCR
    models = Path(rapidocr.__file__).parent / "models"
    settings = {
        # A model that is named by its file is used or missed, never fetched.
        "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),
        "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "Det.limit_type": "max",
        "Det.limit_side_len": DETECTION_SIDE,
        # Pages have been brought to size already. rapidocr would enlarge a thin strip until memory runs out.
        "Global.use_preprocess_img": False,
        # Whether each line stands on its head: pages are upright.
        "Global.use_cls": False,
        # A page without words is no reason for a warning.
        "Global.log_level": "error",
    }
    return RapidOCR(params=settings)
