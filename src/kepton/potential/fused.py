"""Sums over neighbours by kernels for GPUs: of a pair, only its vector and its pull are stored."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.potential.environment import MatrixPairs, Pairs, row_list
from kepton.potential.radial import bessel

ATOMS, LANES, WARPS = 16, 8, 4
"""Atoms of a block of threads, threads that share the neighbours of one, and warps of a block: each
thread has one pair at a time, and the sums over those it has had in registers"""


@dataclass(frozen=True)
class FusedPairs(Pairs):
    """Sums in one pass over the pairs each.

    Radial functions and harmonics are made of the vectors where they are needed and never stored:
    a pair costs 12 bytes to read and 12 to write, where products of matrices move some 400. It
    cannot be differentiated.

    Args:
        vectors: r_ij, Å, float32
        radial: r -> list of K radial functions, zero far away
    """

    vectors: Float[Array, "b n 3 m"]
    radial: Callable

    @staticmethod
    def of(vectors: Float[Array, "b n 3 m"], radial: Callable, degree: int) -> "FusedPairs":
        """From r_ij in Å, and r -> list of K radial functions."""
        r = jnp.sqrt((vectors**2).sum(axis=2))
        return FusedPairs(vectors / r[:, :, None], r, degree, vectors, radial)

    @property
    def projection(self) -> Float[Array, "b n c K"]:
        """As of `Pairs`."""
        functions, *parameters = self._radial()
        count, rows = self._count(), (self.degree + 1) ** 2

        def kernel(vectors, *rest):
            *given, out = rest
            radial = _with(functions, given)

            def more(place, sums):
                r, unit = _polar(vectors, place)
                basis = radial(r)
                terms = [b * y for y in row_list(unit, self.degree) for b in basis]
                return [total + term for total, term in zip(sums, terms)]

            start = [jnp.zeros((ATOMS, LANES), jnp.float32)] * (rows * count)
            sums = jax.lax.fori_loop(0, vectors.shape[2] // LANES, more, start)
            for place, total in enumerate(sums):
                out[:, place // count, place % count] = total.sum(axis=1)

        b, n = self.vectors.shape[:2]
        found = _call(kernel, (rows, count), self._padded(), *parameters)
        return found[: b * n].reshape(b, n, rows, count)

    def pull(
        self, slope: Float[Array, "b n c k"], push: Float[Array, "b n m"] | None
    ) -> Float[Array, "b n 3 m"]:
        """As of `Pairs`."""
        functions, *parameters = self._radial()
        vectors = self._padded()
        rows, count = slope.shape[2:]

        def kernel(vectors, slope, *rest):
            *given, out = rest
            pushes = None if push is None else given.pop(0)
            radial = _with(functions, given)
            slopes = [[slope[:, c, k][:, None] for k in range(count)] for c in range(rows)]

            def one(place, _):
                r, unit = _polar(vectors, place)
                basis, steep = jax.jvp(lambda r: tuple(radial(r)), (r,), (jnp.ones_like(r),))
                t, q = (
                    [reduce(add, (s * value for s, value in zip(row, values))) for row in slopes]
                    for values in (basis, steep)
                )
                y, turn = jax.vjp(lambda *x: tuple(row_list(x, self.degree)), *unit)
                g = turn(tuple(t))
                along = reduce(add, (a * b for a, b in zip(q, y)))
                along -= reduce(add, (a * b for a, b in zip(g, unit))) / r
                if pushes is not None:
                    along += pushes[:, _lanes(place)]
                for c in range(3):
                    out[:, c, _lanes(place)] = along * unit[c] + g[c] / r
                return 0

            jax.lax.fori_loop(0, vectors.shape[2] // LANES, one, 0)

        b, n, _, m = self.vectors.shape
        tiles = [vectors, _filled(slope.reshape(b * n, rows, count).astype(jnp.float32), 0, ATOMS)]
        if push is not None:
            flat = push.reshape(b * n, m).astype(jnp.float32)
            tiles.append(_filled(_filled(flat, 0, ATOMS), 1, LANES))
        found = _call(kernel, vectors.shape[1:], *tiles, *parameters)
        return found[: b * n, :, :m].reshape(b, n, 3, m)

    def _padded(self) -> Float[Array, "a 3 m"]:
        """The vectors of all frames, filled up with such as no radial function reaches."""
        b, n, _, m = self.vectors.shape
        flat = self.vectors.reshape(b * n, 3, m)
        return _filled(_filled(flat, 0, ATOMS, 1e3), 2, LANES, 1e3)

    def _radial(self) -> tuple[Any, ...]:
        """The radial functions of a tile, and the arrays that they depend on."""
        tile = jnp.ones((ATOMS, LANES), jnp.float32)
        convert: Any = jax.closure_convert
        functions, parameters = convert(lambda r: tuple(self.radial(r)), tile)
        return functions, *(jnp.reshape(p, (1,)) for p in parameters)

    def _count(self) -> int:
        return len(jax.eval_shape(lambda r: tuple(self.radial(r)), jnp.ones((1,), jnp.float32)))


def sums_of(dtype: Any) -> Callable:
    """By what neighbours are summed over where nothing is differentiated."""
    return FusedPairs.of if dtype == jnp.float32 and serves() else MatrixPairs.of


def serves() -> bool:
    """Whether there is a GPU on which the kernels say what XLA says."""
    return jax.default_backend() == "gpu" and _sound()


@cache
def _sound() -> bool:
    """Whether kernels and matrix products agree on some pairs: at all, and to rounding."""

    def errors():
        x = jnp.linspace(0.3, 1.7, 2 * 20 * 3 * 12, dtype=jnp.float32)
        vectors, slope = jnp.cos(40.0 * x).reshape(2, 20, 3, 12) + 1.5, jnp.sin(30.0 * x)
        slope, push = slope[: 2 * 20 * 4 * 3].reshape(2, 20, 4, 3), vectors[:, :, 0]
        ours, known = (
            kind.of(vectors, lambda r: bessel(r, 4.0, 3), 1) for kind in (FusedPairs, MatrixPairs)
        )
        both = (
            (ours.projection, known.projection),
            (ours.pull(slope, push), known.pull(slope, push)),
        )
        return jnp.stack([jnp.abs(a - b).max() / jnp.abs(b).max() for a, b in both])

    try:
        # compiled by itself, since this may be asked while another program is traced
        with jax.default_matmul_precision("highest"):
            worst = np.asarray(jax.jit(errors).lower().compile()()).max()
    except Exception as error:  # whatever a compiler of kernels may find to say
        _warn(f"do not run here ({type(error).__name__}: {error})")
        return False
    if not worst < 1e-4:
        _warn(f"are wrong here (by {worst:.2g})")
        return False
    return True


def _warn(what: str) -> None:
    text = f"Kepton's kernels for GPUs {what}; XLA's slower programs do the work."
    warnings.warn(text, stacklevel=2)


def _call(kernel: Callable, shape: tuple[int, ...], *arrays: Array) -> Array:
    """The kernel for ATOMS rows of the arrays at a time; scalars, of shape (1,), go to all."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    def block(shape):
        rest = (0,) * (len(shape) - 1)
        return pl.BlockSpec((ATOMS, *shape[1:]), lambda i: (i, *rest))

    whole = pl.BlockSpec((1,), lambda _: (0,))
    out = jax.ShapeDtypeStruct((len(arrays[0]), *shape), jnp.float32)
    return pl.pallas_call(
        kernel,
        out_shape=out,
        grid=(len(arrays[0]) // ATOMS,),
        in_specs=[whole if a.ndim == 1 else block(a.shape) for a in arrays],
        out_specs=block(out.shape),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=jax.default_backend() == "cpu",
    )(*arrays)


def _with(functions: Callable, given: Any) -> Callable:
    values = [ref[0] for ref in given]
    return lambda r: functions(r, *values)


def _lanes(place: Any) -> Any:
    from jax.experimental import pallas as pl

    return pl.ds(place * LANES, LANES)


def _polar(vectors: Any, place: Any) -> tuple[Any, list[Any]]:
    """Lengths and unit vectors of a tile."""
    x = [vectors[:, c, _lanes(place)] for c in range(3)]
    r = jnp.sqrt(reduce(add, (c * c for c in x)))
    return r, [c / r for c in x]


def _filled(values: Array, axis: int, multiple: int, fill: float = 0.0) -> Array:
    """With as many more along an axis as make a multiple."""
    width = [(0, 0)] * values.ndim
    width[axis] = (0, -values.shape[axis] % multiple)
    return jnp.pad(values, width, constant_values=fill)
