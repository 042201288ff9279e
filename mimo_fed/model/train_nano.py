"""Trains mimo-nano, the base that ships in this package: ``python -m mimo_fed.model.train_nano``.

The text is what every Python carries: the language reference behind `help()` and the docstrings of the
standard library. One core takes about 100 seconds. The result is a working MiMo checkpoint, too small to be
of use to a person and large enough that training it, federating it and measuring it are real.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import argparse
import ast
import json
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional

from mimo_fed.model.mimo import MiMoConfig, MiMoForCausalLM
from mimo_fed.model.tokenizer import EOS, SPECIAL_TOKENS, save_tokenizer

SEED = 11
VOCAB = 512
CONFIG = MiMoConfig(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=176,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    num_nextn_predict_layers=1,
    rms_norm_eps=1e-5,
    bos_token_id=SPECIAL_TOKENS.index("<|im_start|>"),
    eos_token_id=SPECIAL_TOKENS.index(EOS),
    pad_token_id=SPECIAL_TOKENS.index(EOS),
    tie_word_embeddings=False,
)


def documents() -> Iterator[str]:
    """Yield the texts, in a fixed order: language reference topics, then standard-library docstrings."""
    yield from (text for _, text in sorted(topics.items()))
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.glob("*.py")) + sorted(root.glob("[a-z]*/*.py")):
        if path.parent.name in {"test", "site-packages", "pydoc_data", "idlelib"}:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                doc = ast.get_docstring(node)
                if doc and len(doc) > 60:
                    yield doc


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Train a byte-level BPE of 512 entries: any text of any language can be written with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train(stream: torch.Tensor, num_steps: int, batch_size: int = 16, seq_len: int = 128) -> MiMoForCausalLM:
    """Train with AdamW and a cosine schedule; the multi-token-prediction layer keeps its initial values."""
    torch.manual_seed(SEED)
    model = MiMoForCausalLM(CONFIG)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.01)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    schedule = one_cycle(optimizer, max_lr=4e-3, total_steps=num_steps, pct_start=0.05)
    generator = np.random.default_rng(SEED)
    started = time.perf_counter()
    for step in range(num_steps):
        starts = generator.integers(0, len(stream) - seq_len - 1, batch_size)
        rows = torch.stack([stream[start : start + seq_len + 1] for start in starts])
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == num_steps - 1:
            sys.stdout.write(f"{step:5d} {float(loss.detach()):.3f} {time.perf_counter() - started:.0f} s\n")
            sys.stdout.flush()
    model.eval()
    return model


def save(model: MiMoForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config, weights (bfloat16, as MiMo-7B is stored) and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = {**CONFIG.to_dict(), "architectures": ["MiMoForCausalLM"], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    save_tokenizer(tokenizer, folder)


def main() -> None:
    """Train and save; the folder given replaces the one in the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "nano")
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    texts = list(documents())
    tokenizer = train_tokenizer(texts)
    stream = torch.tensor(
        [token for row in tokenizer.encode_batch(texts) for token in (CONFIG.eos_token_id, *row.ids)]
    )
    sys.stdout.write(f"{len(texts)} texts, {sum(map(len, texts))} characters, {len(stream)} tokens\n")
    save(train(stream, arguments.steps), tokenizer, arguments.out)


if __name__ == "__main__":
    main()
