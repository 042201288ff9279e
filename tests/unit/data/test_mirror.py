import hashlib
import http.server
import lzma
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mimo_fed.data.indices import find_indices, find_release
from mimo_fed.data.mirror import download_indices, download_packages
from mimo_fed.errors import DataError, TransportError
from tests.unit.data.archive import SUITE, write_archive

KINDS = ("Packages", "Translation-en")


class Handler(http.server.SimpleHTTPRequestHandler):
    served: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.served.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """A mirror of the small archive, laid out as mirrors are."""
    flat, tree = tmp_path / "flat", tmp_path / "mirror"
    write_archive(flat, per_author=1, compress=True)
    for path in flat.iterdir():
        inner = path.name.split(f"dists_{SUITE}_")[1].replace("_", "/")
        target = tree / "debian" / "dists" / SUITE / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tree)))
    server.served = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url(mirror: http.server.ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{mirror.server_port}/debian/"


def test_what_is_downloaded_is_checked_and_kept(mirror, tmp_path: Path) -> None:
    folder = tmp_path / "indices"
    download_indices(url(mirror), SUITE, KINDS, folder, quiet=True)
    release = find_release(folder, SUITE)
    assert release is not None
    assert [index.kind for index in find_indices(folder, SUITE)] == ["Packages", "Translation-en"]
    for index in find_indices(folder, SUITE):
        release.check(index.name, index.read())
    assert all("127.0.0.1" not in path.name for path in folder.iterdir())
    mirror.served.clear()
    download_indices(url(mirror), SUITE, KINDS, folder, quiet=True)
    assert [path.rsplit("/", 1)[-1] for path in mirror.served] == ["InRelease"]


def test_a_file_that_the_release_file_does_not_vouch_for_is_refused(mirror, tmp_path: Path) -> None:
    path = tmp_path / "mirror" / "debian" / "dists" / SUITE / "main" / "i18n" / "Translation-en.bz2"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="disagree on SHA-256"):
        download_indices(url(mirror), SUITE, KINDS, tmp_path / "indices", quiet=True)
    assert not list((tmp_path / "indices").glob("*Translation-en*"))


def test_a_language_or_suite_that_is_not_there_says_so(mirror, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no Translation-eo"):
        download_indices(url(mirror), SUITE, ["Translation-eo"], tmp_path / "indices", quiet=True)
    with pytest.raises(TransportError, match="cannot download InRelease"):
        download_indices(url(mirror), "none", KINDS, tmp_path / "indices", quiet=True)


def add_package(tree: Path, data: bytes) -> Path:
    """Put a package into the mirror's pool, and into its index and Release file."""
    suite = tree / "debian" / "dists" / SUITE
    index, release = suite / "main" / "binary-amd64" / "Packages.xz", suite / "InRelease"
    stanza = (
        f"Package: sayings\nFilename: pool/s/sayings_1_all.deb\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    )
    old = index.read_bytes()
    plain = lzma.decompress(old) + b"\n" + stanza.encode()
    index.write_bytes(lzma.compress(plain))
    text = release.read_text()
    for before, after in ((old, index.read_bytes()), (lzma.decompress(old), plain)):
        text = text.replace(hashlib.sha256(before).hexdigest(), hashlib.sha256(after).hexdigest())
    release.write_text(text)
    path = tree / "debian" / "pool" / "s" / "sayings_1_all.deb"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def test_packages_are_checked_against_the_index_and_kept(mirror, tmp_path: Path) -> None:
    path = add_package(tmp_path / "mirror", b"a package")
    folder = tmp_path / "packages"
    download_packages(url(mirror), SUITE, ["sayings"], folder, quiet=True)
    assert (folder / "sayings_1_all.deb").read_bytes() == b"a package"
    mirror.served.clear()
    download_packages(url(mirror), SUITE, ["sayings"], folder, quiet=True)
    assert [served.rsplit("/", 1)[-1] for served in mirror.served] == ["InRelease"]
    path.write_bytes(b"another")
    with pytest.raises(DataError, match="disagree on SHA-256"):
        download_packages(url(mirror), SUITE, ["sayings"], tmp_path / "other", quiet=True)
    assert not (tmp_path / "other" / "sayings_1_all.deb").exists()
    with pytest.raises(DataError, match=f"no such package in {SUITE}: none"):
        download_packages(url(mirror), SUITE, ["none"], folder, quiet=True)


def test_a_mirror_that_does_not_answer_says_so(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot download InRelease"):
        download_indices("http://127.0.0.1:9/debian", SUITE, KINDS, tmp_path / "indices", quiet=True)
