"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class SOAP:
    """Adam run in the slowly turning basis in which a matrix's gradient is least correlated.

    L = b2 L + (1 - b2) G G^T,  R = b2 R + (1 - b2) G^T G,  columns of Q_L, Q_R their eigenvectors
    G' = Q_L^T G Q_R,  M' and V Adam's moments of G',  W <- W - lr Q_L (M' / sqrt V) Q_R^T

    The bases are refreshed now and then by one orthogonal iteration, Q_L <- qr(L Q_L), and M' is
    turned with them. Every leaf is a stack of matrices (..., in, out), each preconditioned on its
    own.

    Args:    b1, b2: decays of the moments;  eps: added to sqrt V
    Source:  Vyas et al., arXiv:2409.11321 (2024), algorithm 3
    """

    b1: float = 0.95
    b2: float = 0.99
    eps: float = 1e-8

    def init(self, gradient: Any) -> Any:
        """State from a first gradient, which gives the first bases and moves nothing."""

        def leaf(g):
            g = np.asarray(g)
            return _first(g @ g.swapaxes(-1, -2), g.swapaxes(-1, -2) @ g)

        return jax.tree.map(leaf, gradient)

    def settled(self, state: Any) -> Any:
        """The state with the eigenvectors of what it has gathered as bases, and all else forgotten.

        L, R <- L, R / (1 - b2^steps)
        """

        def leaf(s):
            gathered = 1.0 - self.b2 ** np.asarray(s["steps"], float)
            sides = (np.asarray(s[side]) for side in ("left", "right"))
            return _first(*((side / gathered).astype(side.dtype) for side in sides))

        return jax.tree.map(leaf, state, is_leaf=_is_leaf)

    def step(self, weights: Any, state: Any, gradient: Any, rate) -> tuple[Any, Any]:
        """(new weights, new state) after one step at learning rate `rate`."""

        def leaf(w, g, s):
            steps = s["steps"] + 1.0
            q_left, q_right = s["left_basis"], s["right_basis"]
            turned = q_left.mT @ g @ q_right
            momentum = self.b1 * s["momentum"] + (1 - self.b1) * turned
            second = self.b2 * s["second"] + (1 - self.b2) * turned**2
            deviation = jnp.sqrt(second / (1.0 - self.b2**steps)) + self.eps
            step = momentum / (1.0 - self.b1**steps) / deviation
            w = w - rate * (q_left @ step @ q_right.mT)
            return w, s | {
                "steps": steps,
                "left": self.b2 * s["left"] + (1 - self.b2) * g @ g.mT,
                "right": self.b2 * s["right"] + (1 - self.b2) * g.mT @ g,
                "momentum": momentum,
                "second": second,
            }

        pairs, treedef = jax.tree.flatten(weights)
        gradients, states = treedef.flatten_up_to(gradient), treedef.flatten_up_to(state)
        updated = [leaf(w, g, s) for w, g, s in zip(pairs, gradients, states)]
        return treedef.unflatten([w for w, _ in updated]), treedef.unflatten(
            [s for _, s in updated]
        )

    def refresh(self, state: Any, run: Callable = map) -> Any:
        """The state with its bases turned by one orthogonal iteration.

        On the host: decompositions inside a compiled loop can wait for each other's threads for
        ever on a CPU (observed with JAX 0.10.2), and take longest to compile.

        Args:    run: applies a function to a list, as `map` does; to one stack of matrices a call
        """

        def turned(s):
            left, right = (
                np.linalg.qr(s[side] @ s[f"{side}_basis"])[0] for side in ("left", "right")
            )
            momentum = s["left_basis"] @ s["momentum"] @ s["right_basis"].swapaxes(-1, -2)
            momentum = left.swapaxes(-1, -2) @ momentum @ right
            return s | {"left_basis": left, "right_basis": right, "momentum": momentum}

        matrices, treedef = jax.tree.flatten(state, is_leaf=_is_leaf)
        matrices = [{name: np.asarray(part) for name, part in s.items()} for s in matrices]
        rows = [
            {n: part[k] for n, part in s.items()} for s in matrices for k in range(len(s["steps"]))
        ]
        done = iter(list(run(turned, rows)))
        stacked = []
        for s in matrices:
            own = list(itertools.islice(done, len(s["steps"])))
            stacked.append({name: np.stack([row[name] for row in own]) for name in s})
        return treedef.unflatten(stacked)


def _first(left: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    """The state of a stack of matrices that has bases and nothing else."""
    nothing = np.zeros((*left.shape[:-1], right.shape[-1]), left.dtype)
    return {
        "steps": np.zeros((*left.shape[:-2], 1, 1), np.float32),
        "left": left,
        "right": right,
        "left_basis": np.linalg.eigh(left)[1],
        "right_basis": np.linalg.eigh(right)[1],
        "momentum": nothing,
        "second": nothing,
    }


def _is_leaf(state: Any) -> bool:
    return isinstance(state, dict) and "momentum" in state
