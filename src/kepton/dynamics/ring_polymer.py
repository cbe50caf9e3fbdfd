"""Quantum statistics of nuclei by path integrals."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from kepton.atoms import Frames
from kepton.atoms.frames import Real
from kepton.atoms.units import ACCELERATION, BOLTZMANN, HBAR
from kepton.dynamics.forcefield import ForceField
from kepton.dynamics.integrate import Integrator
from kepton.dynamics.state import State, maxwell_boltzmann, split_keys, thermal_state
from kepton.dynamics.thermostats import heated
from kepton.errors import InputError


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["temperature_K"],
    meta_fields=["timestep_fs", "beads", "friction_per_fs"],
)
@dataclass(frozen=True)
class RingPolymer(Integrator):
    """Path integral Langevin dynamics (PILE): P copies of each system, joined to rings by springs.

    H = sum_k [p_k^2 / 2 m + m w_P^2 (x_k - x_{k+1})^2 / 2 + V(x_k)] at the temperature P T,
    w_P = P k_B T / hbar; in normal modes w_k = 2 w_P sin(k pi / P)

    The springs' motion is exact, with friction and noise in its middle: gamma_k = 2 w_k, and that
    of the centroids is given. Kicks resonate with it, and heat velocities, where 2 w_P dt comes
    near pi: keep it below 2. The beads of a system are walkers in a row. With more beads averages
    of positions approach those of quantum mechanics as 1/P^2.

    Args:
        timestep_fs: dt
        beads: P
        friction_per_fs: of the centroids
        temperature_K: T, one for all walkers or (b,), the same for the beads of one system

    Source: Ceriotti et al., J. Chem. Phys. 133, 124104 (2010); friction in the middle: Liu, Li and
            Liu, J. Chem. Phys. 145, 024103 (2016)
    """

    timestep_fs: float
    beads: int
    friction_per_fs: float
    temperature_K: float | Float[Real, "..."]

    def __post_init__(self):
        super().__post_init__()
        if self.beads < 1:
            raise InputError(f"beads = {self.beads}; give 1 or more, such as 32 for hydrogen.")
        if not self.friction_per_fs >= 0:
            raise InputError(f"friction_per_fs = {self.friction_per_fs}; give 1/fs, 0 or more.")

    @property
    def together(self) -> int:
        """The beads of a system."""
        return self.beads

    def init(self, key: Key[Array, "b"], field: ForceField, frames: Frames) -> State:
        """Rings, all beads of each at one place, with velocities of the temperature P T.

        Args:
            key: one random key a bead
            field: the force field
            frames: the configurations; `frames.tile(beads)` repeats each
        Raises:
            InputError: a number of frames that is no multiple of the number of beads
        """
        if len(frames) % self.beads:
            raise InputError(
                f"{len(frames)} frames are no whole rings of {self.beads} beads; give "
                "frames.tile(beads)."
            )
        hot = self.beads * jnp.asarray(self.temperature_K)
        return thermal_state(key, field, frames, hot, still=False)

    def move(self, state: State) -> State:
        """Half of the springs' motion, friction and noise, the other half."""
        key, now = split_keys(state.key)
        state = self._free(state)
        friction = 2 * self._frequencies(state)
        friction = friction.at[:, 0].set(self.friction_per_fs)
        c = jnp.exp(-self.timestep_fs * friction)
        hot = self.beads * jnp.asarray(self.temperature_K)
        noise = self._rings(maxwell_boltzmann(now, state.masses, hot))
        modes = c * self._modes(state.velocities) + jnp.sqrt(1 - c**2) * noise
        return self._free(replace(heated(state, self._walkers(modes)), key=key))

    def _free(self, state: State) -> State:
        """Half a time step of rings without a potential: each mode turns by its phase.

        x <- x cos(w t) + v sin(w t) / w,   v <- v cos(w t) - w x sin(w t),   t = dt / 2
        """
        t, w = 0.5 * self.timestep_fs, self._frequencies(state)
        x, v = self._modes(state.frames.positions), self._modes(state.velocities)
        place = x * jnp.cos(w * t) + v * t * jnp.sinc(w * t / jnp.pi)
        speed = v * jnp.cos(w * t) - w * x * jnp.sin(w * t)
        frames = state.frames.with_positions(self._walkers(place))
        return replace(state, frames=frames, velocities=self._walkers(speed))

    def spring_energy(self, state: State) -> Float[Array, "r"]:
        """sum_k m w_P^2 (x_k - x_{k+1})^2 / 2 of every ring, in eV."""
        modes = self._frequencies(state) * self._modes(state.frames.positions)
        mass = self._rings(state.masses)[..., None]
        return 0.5 * (mass * modes**2).sum(axis=(1, 2, 3)) / ACCELERATION

    def quantum_kinetic_energy(self, state: State) -> Float[Array, "r"]:
        """The kinetic energy of every system in its centroid virial estimate; its mean is physical.

        K = 3 n k_B T / 2 - (1 / 2 P) sum_k (x_k - <x>) . F_k        <> -> mean over beads

        Returns: eV
        Source:  Ceriotti et al., J. Chem. Phys. 133, 124104 (2010)
        """
        x, f = self._rings(state.frames.positions), self._rings(state.forces)
        apart = x - x.mean(axis=1, keepdims=True)
        atoms = self._rings(state.frames.mask)[:, 0].sum(axis=1)
        classical = 1.5 * atoms * BOLTZMANN * self._temperature(state)
        return classical - 0.5 * (apart * f).sum(axis=(2, 3)).mean(axis=1)

    def _temperature(self, state: State) -> Float[Array, "r"]:
        return self._rings(jnp.broadcast_to(jnp.asarray(self.temperature_K), (len(state),)))[:, 0]

    def _frequencies(self, state: State) -> Float[Array, "r p 1 1"]:
        """w_k of the normal modes, 1/fs."""
        spring = self.beads * BOLTZMANN * self._temperature(state)[:, None] / HBAR
        w = 2 * spring * np.sin(np.pi * np.arange(self.beads) / self.beads)
        return w[..., None, None]

    def _rings(self, values):
        return values.reshape(-1, self.beads, *values.shape[1:])

    def _modes(self, values):
        return jnp.einsum("kj,rjnc->rknc", normal_modes(self.beads), self._rings(values))

    def _walkers(self, modes):
        beads = jnp.einsum("kj,rknc->rjnc", normal_modes(self.beads), modes)
        return beads.reshape(-1, *modes.shape[2:])


def normal_modes(beads: int) -> Float[np.ndarray, "p p"]:
    """The orthogonal matrix whose rows are the normal modes of a ring; the first is the mean."""
    k, j = np.arange(beads)[:, None], np.arange(beads)
    angle = 2 * np.pi * k * j / beads
    modes = np.where(k <= beads / 2, np.cos(angle), np.sin(angle))
    return modes / np.linalg.norm(modes, axis=1, keepdims=True)
