"""The optimizer turns into the basis in which a problem is well scaled."""

import jax
import jax.numpy as jnp
import numpy as np

from kepton.potential.soap import SOAP


def quadratic(condition=1e4, size=6, seed=0):
    """f(W) = tr (W - W*)^T A (W - W*) B / 2, A and B of random axes, badly scaled."""
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((size, size))
    turn = [np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(2)]
    a, b = (q @ np.diag(np.geomspace(1, condition**-0.5, size)) @ q.T for q in turn)

    def value(w):
        off = w - target
        return 0.5 * jnp.sum(off * (a @ off @ b))

    return value, jnp.asarray(target)


def minimise(steps=400):
    value, _ = quadratic()
    slope = jax.jit(jax.grad(value))
    weights = {"matrix": jnp.zeros((1, 6, 6))}
    optimizer = SOAP()
    step = jax.jit(optimizer.step)
    gradient = {"matrix": slope(weights["matrix"][0])[None]}
    state = optimizer.init(gradient)
    for k in range(steps):
        gradient = {"matrix": slope(weights["matrix"][0])[None]}
        weights, state = step(weights, state, gradient, 0.1 * 0.5 * (1 + np.cos(np.pi * k / steps)))
        if k % 10 == 9:
            state = optimizer.refresh(state)
    return weights["matrix"][0]


def test_a_badly_scaled_quadratic_is_minimised_faster_than_by_gradients():
    """Gradient descent at the best step, 2 / (L + l), leaves ((c-1)/(c+1))^2t of the worst axis.

    That is exp(-4 t / c) = 0.85 of its share with t = 400 and c = 1e4.
    """
    value, _ = quadratic()
    slope = jax.jit(jax.grad(value))
    w = jnp.zeros((6, 6))
    for _ in range(400):
        w = w - 2 / (1 + 1e-4) * slope(w)
    start, plain, found = value(jnp.zeros((6, 6))), value(w), value(minimise())
    assert plain < 0.1 * start
    assert found < 0.1 * plain


def test_the_same_steps_give_the_same_bits():
    np.testing.assert_array_equal(minimise(60), minimise(60))


def test_the_first_gradient_moves_nothing_and_bases_are_orthogonal():
    gradient = {"a": jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 3)))}
    optimizer = SOAP()
    state = optimizer.init(gradient)
    weights, state = optimizer.step({"a": jnp.ones((2, 4, 3))}, state, gradient, 0.0)
    np.testing.assert_array_equal(weights["a"], 1.0)
    leaf = optimizer.refresh(state)["a"]
    for side, size in (("left", 4), ("right", 3)):
        q = leaf[f"{side}_basis"]
        np.testing.assert_allclose(q.mT @ q, np.tile(np.eye(size), (2, 1, 1)), atol=1e-12)


def test_a_settled_state_is_the_first_of_the_gradient_it_has_gathered():
    gradient = {"a": np.random.default_rng(0).standard_normal((2, 4, 3))}
    weights = {"a": jnp.ones((2, 4, 3))}
    optimizer = SOAP()
    first = optimizer.init(gradient)
    state = optimizer.init({"a": np.zeros((2, 4, 3))})
    for _ in range(5):
        weights, state = optimizer.step(weights, state, gradient, 0.0)
    np.testing.assert_array_equal(weights["a"], 1.0)
    settled = optimizer.settled(state)
    assert settled["a"].keys() == first["a"].keys()
    for name, value in first["a"].items():
        # eigenvectors have no sign: what counts is that they are of the same matrix
        if not name.endswith("basis"):
            np.testing.assert_allclose(settled["a"][name], value, atol=1e-12)
    for side in ("left", "right"):
        q, matrix = settled["a"][f"{side}_basis"], first["a"][side]
        turned = q.swapaxes(-1, -2) @ matrix @ q
        np.testing.assert_allclose(
            turned, np.stack([np.diag(np.diag(t)) for t in turned]), atol=1e-12
        )


def test_matrices_of_a_stack_do_not_feel_each_other():
    rng = np.random.default_rng(1)
    gradients = [{"a": jnp.asarray(rng.standard_normal((2, 4, 3)))} for _ in range(3)]
    optimizer = SOAP()

    def run(rows):
        weights = {"a": jnp.zeros((2, 4, 3))[rows]}
        state = optimizer.init({"a": gradients[0]["a"][rows]})
        for g in gradients:
            weights, state = optimizer.step(weights, state, {"a": g["a"][rows]}, 0.1)
        return weights["a"]

    np.testing.assert_allclose(run(slice(None))[:1], run(slice(1)), atol=1e-13)
