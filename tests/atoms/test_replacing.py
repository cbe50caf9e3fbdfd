"""A file is written whole or not at all."""

import os

import pytest

from kepton.atoms.replacing import write_whole


def test_the_new_file_takes_the_place_of_the_old(tmp_path):
    for data in (b"old", b"new"):
        write_whole(tmp_path / "a", data)
        assert (tmp_path / "a").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_is_told_plainly_and_leaves_the_old_alone(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    write_whole(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "a", b"new")
