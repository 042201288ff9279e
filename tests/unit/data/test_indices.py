import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from mimo_fed.data.indices import find_indices, find_release, paragraphs, parse_release, stanzas
from mimo_fed.errors import DataError
from tests.unit.data.archive import SUITE, write_archive

INDEX = b"Package: a\nDescription-it: breve\n uno\n due\n\nPackage: b\nTag: x\n\n"


def test_stanzas_keep_continued_lines() -> None:
    assert list(stanzas(INDEX)) == [
        {"Package": "a", "Description-it": "breve\n uno\n due"},
        {"Package": "b", "Tag": "x"},
    ]
    assert list(stanzas(b"\n\nPackage: c")) == [{"Package": "c"}]


def test_paragraphs_join_lines_but_leave_lists() -> None:
    description = (
        "short one\n first line\n second line\n .\n Has:\n  * one\n  * two\n and more\n .\n .\n last"
    )
    assert paragraphs(description) == (
        "short one",
        "first line second line",
        "Has:\n * one\n * two\nand more",
        "last",
    )


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)]
)
def test_every_compression_reads_the_same(tmp_path: Path, suffix: str, pack) -> None:
    (tmp_path / f"host_debian_dists_sid_main_i18n_Translation-pt_BR{suffix}").write_bytes(pack(INDEX))
    (index,) = find_indices(tmp_path, "sid")
    assert index.read() == INDEX
    assert (index.kind, index.name) == ("Translation-pt_BR", "main/i18n/Translation-pt_BR")


@pytest.mark.skipif(shutil.which("lz4") is None, reason="needs the lz4 program")
def test_lz4_reads_the_same(tmp_path: Path) -> None:
    packed = subprocess.run(["lz4", "-c"], input=INDEX, capture_output=True, check=True).stdout
    (tmp_path / "h_dists_sid_main_binary-amd64_Packages.lz4").write_bytes(packed)
    (index,) = find_indices(tmp_path, "sid")
    assert index.read() == INDEX


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".lz4"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"Packages{suffix}").write_bytes(b"not what it says")
    (index,) = find_indices(tmp_path, "sid")
    with pytest.raises(DataError):
        index.read()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Packages.gz").write_bytes(gzip.compress(INDEX * 50)[:-20])
    with pytest.raises(DataError, match="cannot uncompress"):
        find_indices(tmp_path, "sid")[0].read()


def test_other_suites_and_other_files_are_left_out(tmp_path: Path) -> None:
    for name in (
        "h_dists_sid_main_binary-amd64_Packages",
        "h_dists_old_main_binary-amd64_Packages",
        "Packages.diff",
    ):
        (tmp_path / name).write_bytes(INDEX)
    assert [index.path.name for index in find_indices(tmp_path, "old")] == [
        "h_dists_old_main_binary-amd64_Packages"
    ]
    with pytest.raises(DataError, match="no such folder"):
        find_indices(tmp_path / "none", "sid")


def test_the_release_file_checks_every_index(tmp_path: Path) -> None:
    write_archive(tmp_path, per_author=1)
    release = find_release(tmp_path, SUITE)
    assert release is not None
    assert release.suite == SUITE
    for index in find_indices(tmp_path, SUITE):
        data = index.read()
        assert release.check(index.name, data) == hashlib.sha256(data).hexdigest()
        with pytest.raises(DataError, match="disagree on SHA-256"):
            release.check(index.name, data + b"\n")
    with pytest.raises(DataError, match="names no such index"):
        release.check("main/i18n/Translation-eo", b"")
    assert find_release(tmp_path, "other") is None


def test_only_sha256_counts() -> None:
    release = parse_release("Codename: x\nMD5Sum:\n aa 1 main/Packages\nSHA256:\n bb 1 main/Packages\n")
    assert release.digests == {"main/Packages": "bb"}
