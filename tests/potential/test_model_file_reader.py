"""The C++ reader of model files: what `save` wrote, and files that are broken on purpose."""

import json
import shutil
import subprocess
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from deep_potentials import PLAIN, ensemble_of, random_potential

from kepton.potential.compiled import tables
from kepton.potential.file import save, to_bytes
from kepton.potential.lammps_plugin import KERNELS

PROGRAM = """
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>

#include "model_file.h"

int main(int, char** files) {
  while (*++files) {
    std::ifstream file(*files, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    try {
      const auto model = kepton::read_model(bytes);
      double sum = 0;
      for (const auto& layer : model.weights)
        for (const float weight : layer) sum += weight;
      for (const float c : model.coefficients) sum += c;
      std::cout << "read " << model.species.size() << ' ' << model.members << ' ' << sum << '\\n';
    } catch (const std::runtime_error& wrong) {
      std::cout << "refused: " << wrong.what() << '\\n';
    }
  }
}
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A function from bytes of files to what the reader says; a sanitizer watches it."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("reader")
    (folder / "main.cpp").write_text(PROGRAM)
    watched = ["-std=c++17", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
    sources = folder / "main.cpp", KERNELS / "model_file.cpp"
    done = subprocess.run(
        [compiler, *watched, f"-I{KERNELS}", *sources, "-o", folder / "reader"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "asan" in done.stderr:
        pytest.skip("the compiler has no address sanitizer")
    assert done.returncode == 0, done.stderr

    def read(files):
        paths = [folder / f"{place}.kepton" for place in range(len(files))]
        for path, data in zip(paths, files):
            path.write_bytes(data)
        done = subprocess.run(
            [folder / "reader", *paths],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said = done.stdout.splitlines()
        assert len(said) == len(files)
        return said

    return read


@pytest.fixture(scope="module")
def ensemble():
    return ensemble_of(*[random_potential(seed, core=True, steps=True) for seed in range(2)])


@pytest.fixture(scope="module")
def data(ensemble, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.kepton"
    save(path, ensemble, {"name": 'Å \\ "quoted"', "missing": float("nan")})
    return path.read_bytes()


def edited(data, change):
    """The file with its outer header changed."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def test_what_was_saved_is_read(reader, ensemble, data):
    (said,) = reader([data])
    word, elements, members, total = said.split()
    derived = tables(ensemble.members)
    expected = sum(float(w.sum()) for w in ensemble.members.weights["fitting"])
    expected += float(jnp.asarray(derived["coefficients"]).sum())
    assert (word, elements, members) == ("read", "3", "2")
    assert float(total) == pytest.approx(expected, rel=1e-4)  # six digits are printed


def test_truncated_files_are_refused(reader, data):
    sizes = [0, 1, 7, 8, 9, 100, *range(200, len(data), len(data) // 40), len(data) - 1]
    assert all(said.startswith("refused: it") for said in reader([data[:n] for n in sizes]))


def test_damaged_headers_are_refused_or_harmless(reader, data):
    """Any byte of the header changed, and its length."""
    rng, size = np.random.default_rng(0), 8 + int.from_bytes(data[:8], "little")
    files = []
    for place in [*range(8), *rng.integers(8, size, 400)]:
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        files.append(bytes(damaged))
    said = reader(files)
    assert sum(one.startswith("refused") for one in said) > 200


TENSOR = "weights.fitting.0"
LIES = {
    "a place beyond the end": lambda h: h[TENSOR].update(data_offsets=[0, 2**40]),
    "a place from behind": lambda h: h[TENSOR].update(data_offsets=[80, 40]),
    "a place below zero": lambda h: h[TENSOR].update(data_offsets=[-8, 40]),
    "a place that is no number": lambda h: h[TENSOR].update(data_offsets=["a", {}]),
    "one place": lambda h: h[TENSOR].update(data_offsets=[0]),
    "a shape whose product overflows": lambda h: h[TENSOR].update(shape=[2**33] * 4),
    "a shape of zero": lambda h: h["kernel.coefficients"].update(shape=[0, 3, 2, 3, 16, 8]),
    "another shape": lambda h: h["kernel.empty"].update(shape=[2, 3, 9]),
    "another type": lambda h: h[TENSOR].update(dtype="I64"),
    "a tensor that is missing": lambda h: h.pop("statistics.bias"),
    "no metadata": lambda h: h.pop("__metadata__"),
    "a metadata that is a list": lambda h: h.update(__metadata__=[]),
    "a nest without end": lambda h: h.update(deep=json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(reader, data, lie):
    truth, said = reader([edited(data, lambda _: None), edited(data, LIES[lie])])
    assert truth.startswith("read 3 2 ")
    assert said.startswith("refused: ")


def test_models_without_tables_are_told_what_to_do(reader, ensemble):
    gelu = random_potential(config=replace(PLAIN, activation=("tanh", "gelu")))
    files = [to_bytes(ensemble), to_bytes(ensemble_of(gelu), with_tables=True)]
    for said in reader(files):
        assert "`kepton convert`" in said
