from __future__ import annotations

import hashlib
import os
import stat

import pytest

from workbench.errors import InputError
from workbench.files import atomic_write, file_digest, safe_name


def test_a_written_file_appears_under_its_name_and_nothing_else_stays(tmp_path):
    with atomic_write(tmp_path / "new" / "a.rttm") as temporary:
        assert temporary.parent == tmp_path / "new"
        assert temporary.suffix == ".rttm"
        temporary.write_text("content")
        assert not (tmp_path / "new" / "a.rttm").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.rttm"]
    assert (tmp_path / "new" / "a.rttm").read_text() == "content"


def write_half_and_fail(path):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stopped"):
        write_half_and_fail(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def enter(path):
    with atomic_write(path):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/out/a\.rttm: cannot write into the folder .*file/out"):
        enter(tmp_path / "file" / "out" / "a.rttm")


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "a.rttm").mkdir()
    with pytest.raises(InputError, match=r"a\.rttm: cannot be replaced"):
        enter(tmp_path / "a.rttm")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rttm"]


@pytest.mark.parametrize("uri", ["", ".", "..", "a/b", "../a", "a\\b", "a\0b", "a\nb", "/etc/passwd"])
def test_a_uri_that_could_leave_the_folder_is_refused(uri):
    with pytest.raises(InputError, match="cannot name an output file"):
        safe_name(uri)


@pytest.mark.parametrize("uri", ["EN2002a", "a.b-c_d", "...", "besprechung übung 1", "a__b"])
def test_other_uris_are_kept(uri):
    assert safe_name(uri) == uri


def test_the_digest_is_sha256_of_the_content(tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match="missing"):
        file_digest(tmp_path / "missing")
