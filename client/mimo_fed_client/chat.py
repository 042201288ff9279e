"""Talking to one device's model: base and personalised model answer the same message, side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from mimo_fed.errors import ConfigError
from mimo_fed.model import Arm, DeviceModel, load_base
from mimo_fed_client.agent import device_spec, personal_file
from mimo_fed_client.settings import AgentSettings, load_settings
from mimo_fed_client.slots import Slots

NARROW = 70
"""columns of a terminal below which the answers stand one under the other"""


@dataclass(kw_only=True)
class Conversation:
    """Two conversations with one device: each arm remembers its own answers.

    Attributes:
        device_id: whose model.
        release: that serves there; -1 if none does.
        model: with both adapters.
    """

    device_id: str
    release: int
    model: DeviceModel
    _said: dict[Arm, list[dict[str, str]]] = field(default_factory=lambda: {"base": [], "personal": []})

    @property
    def share(self) -> float:
        """Lambda, the share of the personal adapter; 0 while there is none."""
        return self.model.personal_scale

    def ask(self, message: str, *, max_new_tokens: int) -> dict[Arm, str]:
        """Let both answer.

        Raises:
            ConfigError: the base cannot chat.
        """
        answers: dict[Arm, str] = {}
        for arm, said in self._said.items():
            said.append({"role": "user", "content": message})
            used: Arm = "global" if arm == "personal" and not self.share else arm
            answers[arm] = self.model.generate(said, used, max_new_tokens)
            said.append({"role": "assistant", "content": answers[arm]})
        return answers


def find_device(run: Path, name: str) -> AgentSettings:
    """Read the settings of a device of a run.

    Raises:
        ConfigError: there is no such run, or no such device in it.
    """
    path = run / "devices" / name / "agent.toml"
    if path.exists():
        return load_settings(path)
    known = sorted(p.parent.name for p in (run / "devices").glob("*/agent.toml"))
    if not known:
        raise ConfigError(f"run has no devices: {run}", hint="`mimo-fed demo` makes one, in runs/demo")
    raise ConfigError(f"run has no device of that name: {name}", hint=f"there are: {', '.join(known)}")


def open_conversation(settings: AgentSettings) -> Conversation:
    """Load a device's base, what is installed there, and its personal adapter; nothing there is changed.

    Raises:
        DataError: the base cannot be loaded.
        AdapterError: an adapter does not fit.
    """
    base = load_base(settings.base, dtype=settings.precision)
    model = DeviceModel(base, device_spec(base))
    installed = Slots(settings.home / "slots").current()
    if installed is not None:
        model.install(installed.data)
    if (path := personal_file(settings)).exists():
        model.load_personal(path.read_bytes())
    release = installed.info.number if installed else -1
    return Conversation(device_id=settings.device_id, release=release, model=model)


def show(console: Console, talk: Conversation, answers: dict[Arm, str]) -> None:
    """Print both answers, side by side where there is room."""
    titles: dict[Arm, str] = {
        "base": "base",
        "personal": f"{talk.device_id}: release {talk.release} + {talk.share:g} x personal",
    }
    width = console.width // 2 - 1 if console.width >= NARROW else console.width
    panels = [
        Panel(Text(answers[arm].strip() or "(nothing)"), title=Text(titles[arm]), width=width)
        for arm in titles
    ]
    console.print(Columns(panels, padding=(0, 1)))


def chat(
    settings: AgentSettings, *, message: str | None, as_json: bool, max_new_tokens: int, console: Console
) -> None:
    """Answer one message, or one after the other until the input ends."""
    with console.status(f"loading {settings.base}"):
        talk = open_conversation(settings)
    if message is not None:
        _answer(console, talk, message, as_json, max_new_tokens)
        return
    if not as_json:
        console.print(f"{settings.device_id}; an empty line ends", style="dim", markup=False)
    while line := _read(console, quiet=as_json):
        _answer(console, talk, line, as_json, max_new_tokens)


def _answer(console: Console, talk: Conversation, message: str, as_json: bool, max_new_tokens: int) -> None:
    with console.status("both answer"):
        answers = talk.ask(message, max_new_tokens=max_new_tokens)
    if not as_json:
        show(console, talk, answers)
        return
    record: dict[str, str | float] = {
        "device": talk.device_id,
        "release": talk.release,
        "lambda": talk.share,
        "message": message,
    }
    record |= {str(arm): text for arm, text in answers.items()}
    print(json.dumps(record, ensure_ascii=False))


def _read(console: Console, *, quiet: bool) -> str:
    try:
        return console.input("" if quiet else "you> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""
