"""Page images: which are refused and why, and the words of the others in the order in which people read them."""

import base64
import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from nvrerank_helpers.connector import images
from nvrerank_helpers.extras import ExtraNotInstalled
from nvrerank_helpers.nim_standin import ocr
from nvrerank_helpers.nim_standin.ocr import (
    FORMATS,
    MARGIN,
    MAX_SIDE,
    PageImageError,
    PageReader,
    TextBox,
    arrange_lines,
    decode_data_url,
    load_page,
)

LINES = ["sorted(iterable, reverse=False)", "Return a new sorted list from 27 items.", "It never changes the original."]

needs_ocr = pytest.mark.skipif(
    not (find_spec("rapidocr") and find_spec("onnxruntime")),
    reason="reading page images needs the extra `images` (rapidocr and onnxruntime)",
)


def draw_page(*lines: str, size: int = 24, ink: str = "black", paper: str = "white") -> Image.Image:
    picture = Image.new("RGB", (640, 60 + 40 * len(lines)), paper)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        draw.text((20, 20 + 40 * number), line, fill=ink, font=font)
    return picture


def save(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def data_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


PNG = save(draw_page("a page"))


@pytest.fixture(scope="module")
def reader() -> PageReader:
    return PageReader(threads=2)


class FakeOcr:
    """Finds the same word on every page, and notes how it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.overlaps = 0
        self._busy = Lock()

    def __call__(self, picture: Image.Image) -> SimpleNamespace:
        self.overlaps += not self._busy.acquire(blocking=False)
        self.calls += 1
        picture.rotate(45, expand=True)
        self._busy.release()
        return SimpleNamespace(txts=("word",), boxes=np.zeros((1, 4, 2)))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOcr:
    fake = FakeOcr()
    monkeypatch.setattr(ocr, "_load_ocr", lambda threads: fake)
    return fake


# The data URL


def test_the_stand_in_accepts_what_the_client_sends():
    assert set(FORMATS) == images.FORMATS


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must be a data URL"),
        ("https://host/page.png", "addresses are not fetched"),
        (base64.b64encode(PNG).decode(), "must be a data URL"),
        ("data:image/png;asset_id,8f1c1e3e-0000-4000-8000-000000000000", "asset references"),
        ("data:image/png,%89PNG", "as base64"),
        ("data:image/png;charset=utf-8;base64,AAAA", "as base64"),
        ("data:image/svg+xml;base64,PHN2Zy8+", r"'image/svg\+xml' is not accepted: send one of image/bmp, image/gif"),
        ("data:;base64,AAAA", "'' is not accepted"),
        ("data:image/\ud800;base64,AAAA", r"\\ud800' is not accepted"),
        ("data:image/png;base64,@@@@", "not base64"),
        ("data:image/png;base64,AAA", "not base64"),
        ("data:image/png;base64,éééé", "not base64"),
    ],
)
def test_a_url_without_an_image_is_refused_with_the_reason(url, reason):
    with pytest.raises(PageImageError, match=reason):
        decode_data_url(url)


def test_scheme_media_type_and_encoding_may_be_in_capitals():
    assert decode_data_url("DATA:IMAGE/PNG;BASE64,AAAA") == b"\0\0\0"


def test_an_image_of_too_many_bytes_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(ocr, "MAX_BYTES", 1000)
    with pytest.raises(PageImageError, match="more than 1,000 bytes: send a smaller one"):
        decode_data_url("data:image/png;base64," + "@" * 2000)


# The image


@pytest.mark.parametrize("content", [b"", b"<svg/>", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_another_kind_of_file_is_refused(content):
    with pytest.raises(PageImageError, match="empty, damaged, or none of image/bmp"):
        load_page(content)


@pytest.mark.parametrize("kind", FORMATS.values())
def test_every_kind_of_image_is_decoded(kind):
    whole = draw_page(*LINES)
    seen = load_page(save(whole, kind)).crop((MARGIN, MARGIN, MARGIN + whole.width, MARGIN + whole.height))
    assert np.abs(np.array(seen, dtype=int) - np.array(whole)).mean() < 2


@pytest.mark.parametrize("kind", FORMATS.values())
def test_an_image_that_ends_too_soon_is_refused(kind):
    content = save(draw_page("a page"), kind)
    with pytest.raises(PageImageError, match=r"the image is damaged .*: open it in a viewer and save it again"):
        load_page(content[: len(content) // 2])


@pytest.mark.parametrize("side", [8_000, 10_000, 50_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(side):
    with pytest.raises(PageImageError, match="more than 50,000,000 pixels: send a smaller one"):
        load_page(png_header(side, side))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(FORMATS.values())), st.data())
def test_a_damaged_image_is_a_page_or_is_refused_and_nothing_else(kind, data):
    content = bytearray(save(Image.new("RGB", (9, 9), "red"), kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with suppress(PageImageError):
        assert load_page(bytes(content)).mode == "RGB"


@pytest.mark.parametrize("size", [(1, 1), (40_000, 1), (1, 40_000), (3000, 2000)])
def test_a_page_has_a_size_that_the_models_can_take(size):
    sides = load_page(save(Image.new("1", size))).size
    assert 2 * MARGIN < min(sides) <= max(sides) <= MAX_SIDE + 2 * MARGIN


def test_a_transparent_background_becomes_white():
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((0, 0), (0, 0, 0, 255))
    seen = load_page(save(picture))
    assert [seen.getpixel((MARGIN + x, MARGIN)) for x in (0, 1)] == [(0, 0, 0), (255, 255, 255)]


def test_sixteen_bits_of_gray_keep_their_shades():
    picture = Image.fromarray(np.array([[10_000, 60_000]], dtype=np.uint16))
    seen = load_page(save(picture))
    assert [seen.getpixel((MARGIN + x, MARGIN))[0] for x in (0, 1)] == [39, 234]


def test_a_photograph_is_turned_as_its_camera_noted():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_page(save(Image.new("RGB", (30, 10)), "JPEG", exif=exif)).size == (10 + 2 * MARGIN, 30 + 2 * MARGIN)


# The order of reading


def test_boxes_of_one_line_are_read_from_left_to_right_however_they_lean():
    tilted = [TextBox(f"w{number}", 100 * number, 3 * number, 3 * number + 20) for number in range(10)]
    below = [TextBox(f"v{number}", 100 * number, 3 * number + 40, 3 * number + 60) for number in range(10)]
    first, second = arrange_lines([*below, *reversed(tilted)]).splitlines()
    assert (first, second) == (" ".join(f"w{n}" for n in range(10)), " ".join(f"v{n}" for n in range(10)))


def test_a_heading_beside_two_small_lines_does_not_join_them():
    assert (
        arrange_lines([TextBox("A", 0, 0, 60), TextBox("one", 50, 8, 24), TextBox("two", 50, 36, 52)]) == "one\nA\ntwo"
    )


GRID = [TextBox(f"{row}{column}", 50 * column, 30 * row, 30 * row + 20) for row in range(3) for column in range(2)]


@given(st.permutations(GRID))
def test_the_order_in_which_boxes_are_found_does_not_matter(boxes):
    assert arrange_lines(boxes) == "00 01\n10 11\n20 21"


# The reader


def test_a_page_is_read_only_once(fake):
    reader = PageReader()
    assert [reader.text(data_url(PNG)), reader.text(data_url(PNG, "image/bmp"))] == ["word", "word"]
    assert fake.calls == 1


def test_threads_read_one_page_at_a_time_and_each_only_once(fake):
    reader = PageReader()
    urls = [data_url(save(Image.new("L", (200, 200), shade))) for shade in range(8)] * 4
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(reader.text, urls)) == {"word"}
    assert (fake.calls, fake.overlaps) == (8, 0)


def test_the_memory_for_words_is_bounded(fake):
    reader = PageReader(cache_mb=0)
    for _ in range(2):
        reader.text(data_url(PNG))
    assert fake.calls == 2


def test_a_refused_image_leaves_the_reader_working(fake):
    reader = PageReader()
    with pytest.raises(PageImageError):
        reader.text(data_url(b"no image"))
    assert reader.text(data_url(PNG)) == "word"


def test_without_the_extra_the_error_names_it_and_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraNotInstalled, match=r"extra `images`.*onnxruntime.*make extras"):
        PageReader().text(data_url(PNG))


def test_importing_the_module_imports_neither_the_models_nor_pillow():
    code = (
        "import sys, nvrerank_helpers.nim_standin.ocr;"
        "print(sorted({'PIL', 'cv2', 'rapidocr', 'onnxruntime', 'llama_index'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The words


@needs_ocr
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_words_of_a_page_come_back_line_by_line(reader, kind):
    assert reader.text(data_url(save(draw_page(*LINES), kind))).splitlines() == LINES


@needs_ocr
def test_white_on_black_is_read_too(reader):
    assert reader.text(data_url(save(draw_page(*LINES, ink="white", paper="black")))).splitlines() == LINES


@needs_ocr
@pytest.mark.parametrize("size", [(400, 300), (1, 3000)])
def test_a_page_without_words_has_no_text_and_gives_no_warning(reader, size, capfd):
    assert reader.text(data_url(save(Image.new("L", size, 255)))) == ""
    assert capfd.readouterr() == ("", "")


@needs_ocr
def test_a_page_of_a_book_is_read_word_for_word(reader):
    text = [f"{number}. {line}" for number in range(4) for line in LINES]
    picture = Image.new("L", (1240, 640), 255)
    for number, line in enumerate(text):
        ImageDraw.Draw(picture).text((100, 60 + 44 * number), line, fill=0, font=ImageFont.load_default(28))
    assert reader.text(data_url(save(picture))).splitlines() == text


@needs_ocr
def test_the_models_are_used_from_the_wheel_and_never_fetched(monkeypatch):
    from rapidocr.utils.download_file import DownloadFile

    def fetch(*_: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr(DownloadFile, "run", fetch)
    assert PageReader(threads=1).text(data_url(PNG)) == "a page"
