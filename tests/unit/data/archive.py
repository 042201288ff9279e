"""A small archive of packages: enough maintainers, descriptions and translations to build from."""

import bz2
import hashlib
import lzma
from pathlib import Path

SUITE = "testing"
PERSON = "Zaphod Quux"
OTHER = "Trillian Quuz"
THIRD = "Arthur Quuy"
TEAM = "Debian Quux Team"


def words(key: str, count: int) -> str:
    """Return words that no other key gives."""
    digest = hashlib.shake_256(key.encode()).hexdigest(4 * count)
    return " ".join(
        digest[8 * i : 8 * i + 8].translate(str.maketrans("0123456789", "ghijklmnop")) for i in range(count)
    )


def stanza(package: str, maintainer: str, *, source: str = "") -> str:
    md5 = hashlib.md5(package.encode(), usedforsecurity=False).hexdigest()
    lines = [f"Package: {package}", "Version: 1.0-1", f"Maintainer: {maintainer} <{package}@example.org>"]
    if source:
        lines.append(f"Source: {source} (0.9)")
    return "\n".join([*lines, f"Description: {package}", f"Description-md5: {md5}", ""])


def translation(package: str, language: str, *extra: str) -> str:
    md5 = hashlib.md5(package.encode(), usedforsecurity=False).hexdigest()
    body = [words(f"{package}{language}{i}", 10) for i in range(4)]
    lines = [f"Package: {package}", f"Description-md5: {md5}", f"Description-{language}: {package} {body[0]}"]
    lines += [f" {body[1]}", f" {body[2]}", " .", f" {body[3]}"]
    for paragraph in extra:
        lines += [" .", f" {paragraph}"]
    return "\n".join([*lines, ""])


def write_archive(folder: Path, *, per_author: int = 60, extra: str = "", compress: bool = False) -> None:
    """Write indices for three people and a team, in English and Italian, and a Release file."""
    folder.mkdir(parents=True, exist_ok=True)
    authors = {"zap": PERSON, "tri": OTHER, "art": THIRD, "tea": TEAM}
    packages = [(f"{key}{number:03d}", name) for key, name in authors.items() for number in range(per_author)]
    extras = [extra] if extra else []
    contents = {
        "main/binary-amd64/Packages": "\n".join(stanza(package, name) for package, name in packages),
        "main/i18n/Translation-en": "\n".join(translation(package, "en", *extras) for package, _ in packages),
        "main/i18n/Translation-it": "\n".join(translation(package, "it", *extras) for package, _ in packages),
    }
    listed = []
    for number, (name, text) in enumerate(contents.items()):
        data, file = text.encode(), f"mirror.example_debian_dists_{SUITE}_{name.replace('/', '_')}"
        packed = (lzma.compress(data), ".xz") if number == 0 else (bz2.compress(data), ".bz2")
        written, suffix = packed if compress else (data, "")
        (folder / (file + suffix)).write_bytes(written)
        for listed_name, listed_data in ((name, data), (name + suffix, written)):
            listed.append(f" {hashlib.sha256(listed_data).hexdigest()} {len(listed_data)} {listed_name}")
    release = [
        "Suite: x",
        f"Codename: {SUITE}",
        "Date: Sat, 01 Feb 2025 10:00:00 UTC",
        "SHA256:",
        *listed,
        "",
    ]
    (folder / f"mirror.example_debian_dists_{SUITE}_InRelease").write_text("\n".join(release))
