"""A model file comes back bit for bit, or is refused."""

import json

import jax
import numpy as np
import pytest

from kepton.errors import InputError
from kepton.potential.ensemble import predict
from kepton.potential.file import from_bytes, load_ensemble, save, to_bytes


def test_a_model_comes_back_bit_for_bit(tmp_path, trained, start):
    path, info = tmp_path / "model.kepton", {"target": 0.05, "name": "Å"}
    save(path, trained, info)
    again, told = load_ensemble(path)
    assert told == info
    assert again.members.config == trained.members.config
    assert jax.tree.structure(again) == jax.tree.structure(trained)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(trained)):
        assert a.dtype == b.dtype
        assert (a == b).all()
    np.testing.assert_array_equal(
        predict(again, start)[0].forces, predict(trained, start)[0].forces
    )
    assert [p.name for p in tmp_path.iterdir()] == ["model.kepton"]
    assert to_bytes(trained, info, with_tables=True) == path.read_bytes()
    assert b"pickle" not in path.read_bytes()


def test_a_truncated_file_is_refused(trained):
    data = to_bytes(trained)
    for size in [0, 1, 7, 8, 9, 100, *range(200, len(data), len(data) // 20), len(data) - 1]:
        with pytest.raises(InputError, match="not a Kepton model file, or it is damaged"):
            from_bytes(data[:size])


def test_a_foreign_file_is_refused_by_name(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "other.safetensors")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3))
    (tmp_path / "text.kepton").write_text("a model, perhaps?" * 10)
    for name in ("other.safetensors", "arrays.npz", "text.kepton"):
        with pytest.raises(InputError, match=rf"{name}: This is not a Kepton model file"):
            load_ensemble(tmp_path / name)
    with pytest.raises(InputError, match="There is no model file"):
        load_ensemble(tmp_path / "none.kepton")


def test_a_damaged_header_is_refused_or_harmless(trained):
    """Any byte of it changed: InputError, never another exception."""
    data, rng = to_bytes(trained), np.random.default_rng(0)
    size = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for place in rng.integers(0, size, 300):
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            from_bytes(bytes(damaged))
        except InputError:
            refused += 1
    assert refused > 150


def edited(data, **changes):
    size = int.from_bytes(data[:8], "little")
    outer = json.loads(data[8 : 8 + size])
    inner = json.loads(outer["__metadata__"]["kepton"]) | changes
    outer["__metadata__"]["kepton"] = json.dumps(inner)
    header = json.dumps(outer).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def test_another_format_architecture_or_setting_is_refused(trained):
    data = to_bytes(trained)
    from_bytes(edited(data))
    with pytest.raises(InputError, match="format 2, and this version of Kepton reads 1"):
        from_bytes(edited(data, format=2))
    for change in (
        {"architecture": "none"},
        {"members": 3},
        {"config": {"colour": 1}},
        {"config": 5},
    ):
        with pytest.raises(InputError, match="not a Kepton model file"):
            from_bytes(edited(data, **change))
