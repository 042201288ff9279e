from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mimo_fed.errors import ConfigError, InstallError, RegistryError
from mimo_fed_client import identity
from mimo_fed_client.identity import enrol_device, load_identity
from mimo_fed_client.settings import AgentSettings
from mimo_fed_server.authority import Authority, build_app
from tests.simulators.registry_server import serving


@dataclass
class Office:
    authority: Authority
    public_key: bytes
    url: str


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    public_key = Authority.initialize(tmp_path / "authority")
    authority = Authority(tmp_path / "authority")
    with serving(build_app(authority)) as url:
        yield Office(authority, public_key, url)
    authority.close()


def device(office: Office, tmp_path: Path, name: str = "phone") -> AgentSettings:
    home = tmp_path / name
    home.mkdir(exist_ok=True)
    (home / "token").write_text(office.authority.make_token(name, lifetime_s=60) + "\n")
    return AgentSettings(
        device_id=name,
        home=home,
        corpus=home / "corpus.jsonl",
        superlink="127.0.0.1:1",
        registry_url="http://127.0.0.1:1",
        root_file=home / "root.json",
        authority_url=office.url,
        token_file=home / "token",
    )


def test_enrols_once_and_keeps_its_key_to_itself(office: Office, tmp_path: Path) -> None:
    settings = device(office, tmp_path)
    assert load_identity(settings) is None
    made = enrol_device(settings)
    assert made.certificate.device_id == "phone"
    assert made.certificate.public_key == made.key.public_key
    assert not (settings.home / "token").exists()
    assert (settings.home / "key").stat().st_mode & 0o077 == 0
    again = enrol_device(settings)
    assert again.certificate == made.certificate
    assert len(office.authority.log()) == 1


def test_killed_before_the_certificate_was_kept(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = device(office, tmp_path)
    write = identity.write_durably

    def die(path: Path, data: bytes) -> None:
        if path.name == "certificate":
            raise InstallError("killed here")
        write(path, data)

    monkeypatch.setattr(identity, "write_durably", die)
    with pytest.raises(InstallError):
        enrol_device(settings)
    key = (settings.home / "key").read_bytes()
    monkeypatch.undo()
    assert enrol_device(settings).key.to_bytes() == key


def test_anothers_certificate_or_token_is_refused(office: Office, tmp_path: Path) -> None:
    phone, car = device(office, tmp_path), device(office, tmp_path, "car")
    enrol_device(phone)
    wrong = car.model_copy(update={"device_id": "bus"})
    with pytest.raises(RegistryError):
        enrol_device(wrong)
    enrol_device(car)
    (car.home / "certificate").write_bytes((phone.home / "certificate").read_bytes())
    with pytest.raises(ConfigError, match="another device"):
        load_identity(car)
