"""`mimo-fed adapter`: look at a released adapter, and exchange it with stock PEFT."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimo_fed.errors import ConfigError

if TYPE_CHECKING:
    from mimo_fed.adapter.weights import GlobalAdapter

EXAMPLES = """
Examples:

  mimo-fed adapter show release.safetensors --spec spec.json

  mimo-fed adapter export release.safetensors --spec spec.json --out lora
  (then PeftModel.from_pretrained(model, "lora"))

  mimo-fed adapter import lora --spec spec.json --out adapter.safetensors
"""
MODEL_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"

File = Annotated[Path, typer.Argument(help="A released adapter.")]
Spec = Annotated[Path, typer.Option("--spec", help="The fleet's spec.json: the adapter's shape.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print for programs.")]


def register(app: typer.Typer) -> None:
    """Add `mimo-fed adapter` to the command line."""
    group = typer.Typer(
        name="adapter",
        help="Look at a released adapter, and exchange it with PEFT.",
        epilog=EXAMPLES,
        no_args_is_help=True,
    )
    group.command("show")(_show)
    group.command("export")(_export)
    group.command("import")(_import)
    app.add_typer(group)


def _show(file: File, spec: Spec, as_json: AsJson = False) -> None:
    """Show an adapter's basis epoch, size and strength: the norm of dW, and each shell's share of it."""
    found = describe(_load(file, spec))
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"digest       {found['digest']}")
    typer.echo(f"basis epoch  {found['basis_epoch']}")
    typer.echo(f"rank         {found['rank']}, {found['modules']} modules, {found['bytes'] / 1e6:.2f} MB")
    typer.echo(f"norm of dW   {found['norm']:.4g}")
    for name, share in found["energy"].items():
        typer.echo(f"  {name:9}  {share:6.1%} of its square")


def _export(
    file: File,
    spec: Spec,
    out: Annotated[Path, typer.Option("--out", help="Folder for the two files of a PEFT LoRA.")],
    as_json: AsJson = False,
) -> None:
    """Write an adapter as a PEFT LoRA that computes the same."""
    from mimo_fed.adapter.exchange import to_peft

    data, config = to_peft(_load(file, spec))
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / MODEL_FILE).write_bytes(data)
        (out / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write: {out} ({error.strerror})") from None
    typer.echo(json.dumps({"folder": str(out), "bytes": len(data)}) if as_json else f"written: {out}")


def _import(
    folder: Annotated[Path, typer.Argument(help="Folder with the two files of a PEFT LoRA.")],
    spec: Spec,
    out: Annotated[Path, typer.Option("--out", help="File for the adapter.")],
    as_json: AsJson = False,
) -> None:
    """Read a PEFT LoRA of the fleet's rank and a scaling of 1, on its own basis."""
    from mimo_fed.adapter.exchange import from_peft
    from mimo_fed.adapter.spec import AdapterSpec

    shape = AdapterSpec.from_json(_read(spec))
    _check_config(_read(folder / CONFIG_FILE), shape.config.rank)
    adapter = from_peft(_read(folder / MODEL_FILE), shape)
    try:
        out.write_bytes(adapter.to_safetensors())
    except OSError as error:
        raise ConfigError(f"cannot write: {out} ({error.strerror})") from None
    typer.echo(json.dumps({"file": str(out), "digest": adapter.digest()}) if as_json else f"written: {out}")


def describe(adapter: GlobalAdapter) -> dict[str, Any]:
    """Say what an adapter is, in numbers; shares are of the squared norm of dW on its own basis."""
    import numpy as np

    data, config = adapter.to_safetensors(), adapter.spec.config
    singular = np.stack([np.diag(core) for core in adapter.canonical().core.values()]).astype(np.float64)
    square_R = np.square(singular).sum(axis=0)
    total = float(square_R.sum())
    energy = {
        shell.name: float(square_R[shell.low : shell.high].sum()) / total if total else 0.0
        for shell in adapter.spec.shells
    }
    return {
        "digest": hashlib.sha256(data).hexdigest(),
        "basis_epoch": adapter.epoch,
        "rank": config.rank,
        "modules": len(adapter.spec.modules),
        "bytes": len(data),
        "norm": total**0.5,
        "energy": energy,
    }


def _load(file: Path, spec: Path) -> GlobalAdapter:
    from mimo_fed.adapter.spec import AdapterSpec
    from mimo_fed.adapter.weights import GlobalAdapter

    return GlobalAdapter.from_safetensors(_read(file), AdapterSpec.from_json(_read(spec)))


def _check_config(data: bytes, rank: int) -> None:
    """Refuse a LoRA whose layers compute something else than B A x.

    Raises:
        ConfigError: it is not the configuration of a LoRA, or of another rank or scaling.
    """
    try:
        config = json.loads(data)
        kind, its_rank, alpha = config["peft_type"], config["r"], config["lora_alpha"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{CONFIG_FILE} is not the configuration of a LoRA") from None
    odd = [
        key
        for key in ("use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern")
        if config.get(key)
    ]
    if kind != "LORA" or its_rank != rank or alpha != rank or odd or config.get("bias", "none") != "none":
        said = f"{kind}, r {its_rank}, lora_alpha {alpha}" + "".join(f", {key}" for key in odd)
        raise ConfigError(
            f"this adapter computes something else: {said}",
            hint=f"a plain LoRA of r {rank} with lora_alpha {rank} can be imported",
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {path} ({error.strerror})") from None
