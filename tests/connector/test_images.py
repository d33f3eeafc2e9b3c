import base64

import pytest
from llama_index.core.schema import ImageNode, MetadataMode, TextNode

from nvrerank_helpers.connector.images import has_image, image_of
from nvrerank_helpers.connector.nodes import passage_of

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CODED = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{CODED}"


def test_a_data_url_in_the_metadata_is_sent_as_it_is():
    assert image_of(TextNode(metadata={"image": URL})) == URL


@pytest.mark.parametrize("image", [CODED, URL])
def test_the_content_of_an_image_node_becomes_a_data_url(image):
    assert image_of(ImageNode(image=image)) == URL


def test_the_file_that_an_image_node_names_is_read(tmp_path):
    (tmp_path / "page.png").write_bytes(PNG)
    assert image_of(ImageNode(image_path=str(tmp_path / "page.png"))) == URL


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (TextNode(id_="n1", metadata={"image": "http://host/page.png"}), "must be a data URL"),
        (TextNode(id_="n1", metadata={"image": "/etc/hostname"}), "must be a data URL"),
        (TextNode(id_="n1", metadata={"image": 7}), "must be a data URL"),
        (TextNode(id_="n1", metadata={"image": "data:image/svg+xml;base64,AAAA"}), "image/svg.xml is not one of"),
        (TextNode(id_="n1", metadata={"image": "data:image/png;base64,@@"}), "not base64"),
        (ImageNode(id_="n1", image_url="https://host/page.png"), "only an address"),
        (ImageNode(id_="n1", image="AAAA"), "an unknown kind of file"),
        (ImageNode(id_="n1", image="not base64!"), "not base64"),
        (ImageNode(id_="n1", image_path="/no/such/file.png"), "No such file"),
    ],
)
def test_an_image_that_cannot_be_sent_is_refused_with_node_and_reason(node, reason):
    with pytest.raises(ValueError, match=f"'n1' cannot be sent: .*{reason}"):
        image_of(node)


@pytest.mark.parametrize("node", [TextNode(text="a"), ImageNode(text="a")])
def test_a_node_without_an_image_has_none(node):
    assert image_of(node) is None
    assert not has_image(node)


def test_text_and_image_are_sent_together_and_the_image_not_as_text():
    node = TextNode(text="a page", metadata={"image": URL, "page": 3})
    passage = passage_of(node, MetadataMode.ALL, takes_images=True)
    assert passage == {"text": "page: 3\n\na page", "image": URL}


def test_an_empty_text_beside_an_image_is_left_out():
    assert passage_of(ImageNode(image=CODED), MetadataMode.EMBED, takes_images=True) == {"image": URL}


def test_an_image_is_sent_to_a_model_that_nobody_knows():
    assert "image" in passage_of(ImageNode(image=CODED), MetadataMode.EMBED, takes_images=None)


def test_an_image_for_a_model_that_reads_text_only_is_an_error():
    with pytest.raises(ValueError, match="reads text only"):
        passage_of(TextNode(text="a", metadata={"image": URL}), MetadataMode.EMBED, takes_images=False)


def test_the_name_of_a_picture_is_plain_metadata_for_a_model_that_reads_text_only():
    node = TextNode(text="a", metadata={"image": "figure-1.png"})
    assert passage_of(node, MetadataMode.NONE, takes_images=False) == {"text": "a"}


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(ValueError, match="'n1' holds text that is not valid Unicode"):
        passage_of(TextNode(id_="n1", text="\ud800"), MetadataMode.EMBED, takes_images=False)
