"""Kernels for GPUs, interpreted on a CPU, against products of matrices; and that they lower."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deep_potentials import ensemble_of, random_potential
from test_blocks import cluster_expansion, organic

from kepton.atoms import Frames
from kepton.atoms.neighbors import neighbors
from kepton.devices import EACH, shared_out
from kepton.potential import environment, fused
from kepton.potential.environment import MatrixPairs
from kepton.potential.fused import FusedPairs
from kepton.potential.radial import bessel

MODELS = {
    "one set of radial coefficients": lambda: ensemble_of(
        *(random_potential(s, core=True) for s in range(2))
    ),
    "one for every pair of elements": lambda: ensemble_of(random_potential(3, environment=True)),
    "harmonics up to the third degree": cluster_expansion,
}


@pytest.fixture(autouse=True)
def unsound():
    """What was found of the kernels is forgotten before and after."""
    fused._sound.cache_clear()
    yield
    fused._sound.cache_clear()


def answers(ensemble, frames, lists, sums):
    @jax.jit
    def each(members, frames, lists):
        described = members.describe(frames, lists, None, sums)
        return jax.vmap(lambda weights: members.with_weights(weights).answer(described))(
            members.weights
        )

    return each(ensemble.members, frames, lists)


@pytest.mark.parametrize("name", MODELS)
def test_kernels_sum_as_products_of_matrices_do(name):
    ensemble = MODELS[name]().with_dtype(jnp.float32)
    frames = Frames.from_ase(organic())
    lists = neighbors(frames, ensemble.cutoff, skin=0.5)
    assert frames.positions.shape[1] % fused.ATOMS, "rows are filled up"
    assert any(width % fused.LANES for _, width in lists.segments), "and columns"
    ours, known = (
        answers(ensemble, frames, lists, sums) for sums in (FusedPairs.of, MatrixPairs.of)
    )
    exact = answers(ensemble.with_dtype(jnp.float64), frames, lists, MatrixPairs.of)
    for mine, his, true in zip(ours, known, exact):
        # as far from float64 as float32 by products of matrices is
        rounding = np.abs(np.asarray(his) - true).max()
        assert rounding > 0
        np.testing.assert_allclose(mine, true, rtol=0, atol=3 * rounding)


def sums(vectors, slope):
    pairs = FusedPairs.of(vectors, lambda r: bessel(r, 4.0, 8), 1)
    return pairs.projection, pairs.pull(slope, None)


def test_kernels_lower_for_cuda(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    shapes = (1, 32, 3, 24), (1, 32, 4, 8)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    program = jax.jit(sums).trace(*given).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("__gpu$xla.gpu.triton") == 2


def test_a_cpu_takes_products_of_matrices():
    assert fused.sums_of(jnp.float32) == MatrixPairs.of


def test_a_gpu_takes_kernels_that_are_sound(monkeypatch):
    assert fused._sound()
    monkeypatch.setattr(fused, "serves", lambda: True)
    assert fused.sums_of(jnp.float32) == FusedPairs.of
    assert fused.sums_of(jnp.float64) == MatrixPairs.of


@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
def test_they_are_checked_while_another_program_is_traced(precision):
    """One that is shared out over devices too, and whose own products are rounded."""
    rows = len(jax.devices())
    program = shared_out(lambda x: x + fused._sound(), rows, EACH)
    with jax.default_matmul_precision(precision):
        assert (jax.jit(program)(jnp.ones(rows)) == 2).all()


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda pairs, *_: 0.9 * pairs.vectors, "are wrong here"),
        (lambda pairs, *_: pairs.nothing, "do not run here"),
    ],
)
def test_kernels_that_fail_here_are_left_alone(broken, why, monkeypatch):
    monkeypatch.setattr(FusedPairs, "pull", broken)
    with pytest.warns(UserWarning, match=f"kernels for GPUs {why}"):
        assert not fused._sound()


def test_forces_do_not_depend_on_the_order_of_their_parts():
    rng = np.random.default_rng(0)
    parts, rows = jnp.asarray(rng.normal(size=(5000, 3))), jnp.asarray(rng.integers(20, size=5000))
    order = rng.permutation(5000)
    total = partial(environment._in_any_order, 20)
    known = jax.ops.segment_sum(parts, rows, num_segments=20)
    found = total(parts, rows)
    np.testing.assert_array_equal(found, total(parts[order], rows[order]))
    most = int(np.bincount(rows).max())
    np.testing.assert_allclose(found, known, rtol=0, atol=most * environment.QUANTUM)

    def size(parts, sums):
        return (sums(parts, rows) ** 2).sum()

    slopes = [
        jax.grad(size)(parts, sums)
        for sums in (total, partial(jax.ops.segment_sum, num_segments=20))
    ]
    np.testing.assert_allclose(*slopes, rtol=0, atol=2 * most * environment.QUANTUM)
