import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from mimo_fed.data.debs import unpack
from mimo_fed.data.fortunes import build_quoted, sayings
from mimo_fed.data.splits import Budget
from mimo_fed.data.users import SetPlan
from mimo_fed.errors import DataError
from tests.unit.data.archive import words

pytest.importorskip("arpy")
PLAN = SetPlan(languages=("en", "de"), budget=Budget(train=(200, 900), validation=(60, 300), test=(60, 400)))


def file_of(*authors: str) -> str:
    return "\n%\n".join(
        f'{words(f"{author}{number}", 8)}\n\t\t-- {author}, "Works"'
        for author in authors
        for number in range(15)
    )


def archive_of(*members: tuple[str, bytes]) -> bytes:
    """Return an `ar` archive."""
    data = b"!<arch>\n"
    for name, content in members:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        data += header.encode() + content + b"\n" * (len(content) % 2)
    return data


def package_of(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        for name, text in files.items():
            about = tarfile.TarInfo(f"./usr/share/games/fortunes/{name}")
            about.size = len(text.encode())
            tar.addfile(about, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("./usr/share/games/fortunes/wisdom.u8")
        link.type, link.linkname = tarfile.SYMTYPE, "wisdom"
        tar.addfile(link)
    return archive_of(
        ("debian-binary", b"2.0\n"), ("control.tar.xz", b"xy"), ("data.tar.xz", packed.getvalue())
    )


FILES = {
    "wisdom": file_of("Zaphod Quux", "Trillian Quuz"),
    "off/rude": file_of("Rude Quux"),
    "rude-o": file_of("Rude Quux"),
    "wisdom.dat": file_of("Binary Quux"),
    "de/weise": file_of("Arthur Quuy", "Zaphod Quux"),
}


def test_sayings_have_the_author_at_their_end() -> None:
    text = """A saying -- with a dash.
Over two lines.
\t\t-- Ada Quux (1815-1852)
%
Nobody said this.
%
Somewhere online.
    -- http://example.org
%
They say it.
  -- Chinese proverb
%
More.
\t-- Jean Quux, "Works",
\t   volume 3
%"""
    assert list(sayings(text)) == [
        ("Ada Quux", "A saying -- with a dash.\nOver two lines."),
        ("Jean Quux", "More."),
    ]


def test_the_same_set_comes_from_packages_and_from_what_is_in_them(tmp_path: Path) -> None:
    packages, folder = tmp_path / "packages", tmp_path / "fortunes"
    packages.mkdir()
    package = package_of(FILES)
    (packages / "fortunes_1_all.deb").write_bytes(package)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    devices, provenance = build_quoted(packages, PLAN)
    assert build_quoted(folder, PLAN)[0] == devices
    assert provenance["files"] == [
        {"name": "fortunes_1_all.deb", "sha256": hashlib.sha256(package).hexdigest()}
    ]


def test_a_user_is_an_author_in_one_language_and_offensive_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "fortunes_1_all.deb").write_bytes(package_of(FILES))
    devices, _ = build_quoted(tmp_path, PLAN)
    assert len({device.author for device in devices}) == len(devices) == 3
    assert sorted({device.language for device in devices}) == ["de", "en"]
    allowed = FILES["wisdom"] + FILES["de/weise"]
    texts = [text.text for device in devices for text in device.texts]
    assert texts
    assert all(text in allowed for text in texts)
    assert not any("Quu" in text for text in texts)


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sayings in en"):
        build_quoted(tmp_path, PLAN)
    (tmp_path / "fortunes_1_all.deb").write_bytes(package_of(FILES)[:-40])
    with pytest.raises(DataError, match=r"fortunes_1_all\.deb"):
        build_quoted(tmp_path, PLAN)


@pytest.mark.parametrize(
    "package",
    [b"", b"PK\3\4 other", archive_of(("debian-binary", b"2.0\n")), archive_of(("data.tar.xz", b"x"))],
)
def test_what_is_not_a_package_is_refused(package: bytes) -> None:
    with pytest.raises(DataError, match=r"me\.deb"):
        list(unpack(package, what="me.deb"))
