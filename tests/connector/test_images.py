import base64

import pytest
from connector.images import encode_image, has_image
from connector.nodes import to_passage
from llama_index.core.schema import ImageNode, MetadataMode, TextNode

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CODED = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{CODED}"


def test_a_data_url_in_the_metadata_is_sent_as_it_is():
    assert encode_image(TextNode(metadata={"image": URL})) == URL


@pytest.mark.parametrize("image", [CODED, URL])
def test_the_content_of_an_image_node_becomes_a_data_url(image):
    assert encode_image(ImageNode(image=image)) == URL


def test_the_file_that_an_image_node_names_is_read(tmp_path):
    (tmp_path / "page.png").write_bytes(PNG)
    assert encode_image(ImageNode(image_path=str(tmp_path / "page.png"))) == URL


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (TextNode(metadata={"image": "data:image/svg+xml;base64,AAAA"}), "image/svg.xml is not one of"),
        (TextNode(metadata={"image": "data:image/png;base64,@@"}), "not base64"),
        (TextNode(metadata={"image": "data:image/png,raw"}), "must be a data URL"),
        (ImageNode(image_url="https://host/page.png"), "only an address"),
        (ImageNode(image="AAAA"), "an unknown kind of file"),
        (ImageNode(image="not base64!"), "not base64"),
        (ImageNode(image_path="/no/such/file.png"), "No such file"),
    ],
)
def test_an_image_that_cannot_be_sent_is_refused_with_the_reason(node, reason):
    with pytest.raises(ValueError, match=f"its image cannot be sent: .*{reason}"):
        encode_image(node)


@pytest.mark.parametrize("value", ["figures/dog.png", "http://host/page.png", "/etc/hostname", None, 7, ["a"], b"x"])
def test_another_value_under_image_is_plain_metadata(value):
    node = TextNode(text="a dog", metadata={"image": value})
    assert not has_image(node)
    assert to_passage(node, MetadataMode.NONE, takes_images=True) == {"text": "a dog"}


@pytest.mark.parametrize("node", [TextNode(text="a"), ImageNode(text="a")])
def test_a_node_without_an_image_has_none(node):
    assert not has_image(node)


def test_text_and_image_are_sent_together_and_the_image_not_as_text():
    node = TextNode(text="a page", metadata={"image": URL, "page": 3})
    passage = to_passage(node, MetadataMode.ALL, takes_images=True)
    assert passage == {"text": "page: 3\n\na page", "image": URL}


def test_an_empty_text_beside_an_image_is_left_out():
    assert to_passage(ImageNode(image=CODED), MetadataMode.EMBED, takes_images=True) == {"image": URL}


def test_an_image_is_sent_to_a_model_that_nobody_knows():
    assert "image" in to_passage(ImageNode(image=CODED), MetadataMode.EMBED, takes_images=None)


@pytest.mark.parametrize("takes_images", [True, None])
def test_an_image_that_cannot_be_sent_leaves_the_text(takes_images, caplog):
    node = ImageNode(id_="n1", text="a dog", image_url="https://host/dog.png")
    assert to_passage(node, MetadataMode.EMBED, takes_images=takes_images) == {"text": "a dog"}
    assert "'n1' is ranked by its text alone" in caplog.text


def test_a_model_that_reads_text_gets_the_text_of_a_node_with_an_image():
    node = TextNode(text="a dog", metadata={"image": URL})
    assert to_passage(node, MetadataMode.ALL, takes_images=False) == {"text": "a dog"}


def test_an_image_alone_cannot_be_ranked_by_a_model_that_reads_text():
    with pytest.raises(ValueError, match="an image only, and the model reads text"):
        to_passage(ImageNode(image=CODED), MetadataMode.EMBED, takes_images=False)
