"""Exploration by molecular dynamics: many Langevin walkers, watched by the ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kepton.atoms.frames import Frames, concatenate, split
from kepton.atoms.neighbors import Neighbors
from kepton.devices import ALL, EACH, jitted, shared_out
from kepton.dynamics import Integrator, Langevin, Shape, State, StochasticCellRescaling, simulate
from kepton.elt import Exploration, Failure
from kepton.potential.ensemble import Ensemble, atom_deviation, component_rms
from kepton.potential.geometry import UNSTRAINED, Gate, Strain


@dataclass(frozen=True)
class ExploreConfig:
    """The conditions under which the model is to hold, and how they are explored.

    Args:
        temperature_K: lowest and highest temperature; the audit is made at the highest, where
            errors are largest
        walkers: how many walk at once; 0: as many as suits the size of the structures
        walk_fs: longest walk of an explorer
        audit_fs: length of an audit's walk; its configuration is drawn from the second half
        timestep_fs: of the integrator
        friction_per_fs: of the Langevin thermostat
        watch_fs: time between two looks at the deviation
        strain: of the cells of the given structures, where walks begin
        pressure_GPa: lowest and highest, one drawn for each walk; none: at constant volume
        cell_shape: what of the cell may change at constant pressure
    """

    temperature_K: tuple[float, float] = (300.0, 600.0)
    walkers: int = 0
    walk_fs: float = 1000.0
    audit_fs: float = 2000.0
    timestep_fs: float = 0.5
    friction_per_fs: float = 0.01
    watch_fs: float = 10.0
    strain: Strain = UNSTRAINED
    pressure_GPa: tuple[float, float] | None = None
    cell_shape: Shape = Shape.ISOTROPIC

    def looks(self, length_fs: float) -> int:
        """Number of looks in a walk."""
        return max(1, round(length_fs / self.watch_fs))

    def suited(self, structures: Sequence[Frames]) -> "ExploreConfig":
        """The same, with a number of walkers."""
        atoms = max(frames.positions.shape[1] for frames in structures)
        return replace(self, walkers=self.walkers or int(np.clip(WALKING // atoms, FEWEST, MOST)))

    def dynamics(
        self, temperature_K: Float[Array, "b"], rng: np.random.Generator
    ) -> Langevin | StochasticCellRescaling:
        """How walkers at these temperatures walk."""
        thermostat = Langevin(self.timestep_fs, self.friction_per_fs, temperature_K)
        if self.pressure_GPa is None:
            return thermostat
        pressure = jnp.asarray(rng.uniform(*self.pressure_GPa, size=len(temperature_K)))
        return StochasticCellRescaling(thermostat, pressure, self.cell_shape)

    @property
    def stride(self) -> int:
        """Steps between two looks."""
        return max(1, round(self.watch_fs / self.timestep_fs))


WALKING, FEWEST, MOST = 1024, 8, 64
"""Atoms that walk at once, and bounds on the number of walkers"""
HOT = 4 / 3
"""Explorers of isolated structures are up to so many times as hot as the highest temperature:
labels from there lower the largest errors below it by a fifth, and cost the others nothing
(measured with glycine). A crystal that is too hot is another phase"""
SAMPLES_PER_WALK = 6
MOMENTS_PER_WALK = 8


@jitted
def deviation(
    ensemble: Ensemble, frames: Frames, neighbors: Neighbors
) -> tuple[Float[Array, "b"], Float[Array, "b n"]]:
    """Disagreement of the ensemble as a root mean square over force components, and by atom."""

    def share(ensemble, frames, neighbors):
        per_atom = atom_deviation(ensemble.answers(frames, neighbors, virial=False).forces)
        return component_rms(per_atom, frames.mask), per_atom

    return shared_out(share, len(frames), ALL, EACH, EACH)(ensemble, frames, neighbors)


def explore(
    ensemble: Ensemble,
    starts: list[Frames],
    known: list[Frames],
    gate: Gate,
    trust: float,
    config: ExploreConfig,
    seed: int,
) -> Exploration:
    """Walk until the deviation exceeds `trust`, a geometry breaks, or time is up.

    So walks grow with the trust that the ensemble earns. Every look at a walker gives a candidate;
    the most doubtful few of each walk are kept. Half of the walkers foretell the audit: they start
    from the given structures at the highest temperature, and what they visit is reported as
    `visited` and `typical`. The other half starts from labelled configurations drawn at random,
    at temperatures spread over the range; of isolated structures up to HOT times the highest, where
    what is rare in the audit is met more often. One member, drawn at random, drives all of them:
    where trust ends each walk, it finds places as well as the mean does, and is k times cheaper.

    Args:    starts: the given structures;  known: labelled frames;  trust: eV/Å
    """
    rng = np.random.default_rng(seed)
    driver = ensemble.alone(int(rng.integers(ensemble.size)))
    hot = 1.0 if any(np.any(frames.pbc) for frames in starts) else HOT
    begin, method, state = _walkers(driver, starts, known, config, hot, seed, rng)
    count = len(begin)
    scouts = count // 2
    looks = config.looks(config.walk_fs)
    doubt = np.full((looks, count), np.inf)
    seen: list[Frames] = []
    left = np.zeros(count, int)
    alive = np.ones(count, bool)
    for look in range(looks):
        state, info = simulate(driver, method, state, config.stride)
        frames = state.frames
        now = np.asarray(deviation(ensemble, frames, state.neighbors)[0], float)
        sound = alive & ~info.broken & np.isfinite(now) & gate.sound(frames)
        doubt[look] = np.where(sound, now, np.inf)
        seen.append(_here(begin, state))
        alive = sound & (now <= trust)
        left += alive
        state = state.freeze(~alive)
        if not alive.any():
            break
    doubtful = np.argsort(np.where(np.isfinite(doubt), -doubt, 0.0), axis=0)[:SAMPLES_PER_WALK]
    chosen = [(int(i), w) for w in range(count) for i in doubtful[:, w] if np.isfinite(doubt[i, w])]
    moments = rng.integers(looks // 2, looks, size=(MOMENTS_PER_WALK, scouts))
    places = [(int(m), w) for w, m in enumerate(moments[0]) if np.isfinite(doubt[m, w])]
    rng.shuffle(places)

    def frames_at(places):
        return [part for look, w in places for part in split(seen[look][w : w + 1])]

    return Exploration(
        samples=frames_at(chosen),
        deviation=np.array([doubt[place] for place in chosen]),
        typical=frames_at(places),
        visited=doubt[moments, np.arange(scouts)].ravel(),
        info={
            "walk_fs": float(left.mean() * config.watch_fs),
            "longest_fs": looks * config.watch_fs,
            "stayed": float(alive.mean()),
        },
    )


def visited(
    ensemble: Ensemble,
    starts: list[Frames],
    known: list[Frames],
    gate: Gate,
    count: int,
    config: ExploreConfig,
    seed: int,
) -> Frames:
    """At most about `count` configurations of free walks; a walk ends where it breaks.

    Half of the walkers start from the given structures at the highest temperature, the others from
    labelled configurations at temperatures spread over the range.

    Args:    starts: the given structures;  known: labelled frames
    """
    rng = np.random.default_rng(seed)
    begin, method, state = _walkers(ensemble, starts, known, config, 1.0, seed, rng)
    looks = min(max(1, round(count / len(begin))), config.looks(config.walk_fs))
    stride = max(1, round(config.walk_fs / config.timestep_fs / looks))
    alive, parts = np.ones(len(begin), bool), []
    for _ in range(looks):
        state, info = simulate(ensemble, method, state, stride)
        alive &= ~info.broken & gate.sound(state.frames)
        parts.append(_here(begin, state)[alive])
        state = state.freeze(~alive)
    return concatenate(parts)


def _walkers(
    driver: Ensemble,
    starts: list[Frames],
    known: list[Frames],
    config: ExploreConfig,
    hot: float,
    seed: int,
    rng: np.random.Generator,
) -> tuple[Frames, Integrator, State]:
    """Where walkers begin, and how they walk.

    Half of them from the given structures at the highest temperature, the others from labelled ones
    at temperatures from the lowest to `hot` times the highest.
    """
    count = config.walkers
    scouts = count // 2
    given = concatenate([starts[i] for i in rng.integers(len(starts), size=scouts)])
    rest = [known[i] for i in rng.integers(len(known), size=count - scouts)]
    begin = concatenate([config.strain.of(given, rng), *rest])
    low, high = config.temperature_K
    temperature = np.append(np.full(scouts, high), np.linspace(low, hot * high, count - scouts))
    method = config.dynamics(jnp.asarray(temperature), rng)
    keys = jax.random.split(jax.random.key(seed), count)
    return begin, method, method.init(keys, driver, begin)


def _here(begin: Frames, state: State) -> Frames:
    """Where walkers are now, on the host."""
    positions, cell = (np.asarray(part) for part in (state.frames.positions, state.frames.cell))
    return replace(begin, positions=positions, cell=cell)


def audit(
    ensemble: Ensemble,
    starts: list[Frames],
    gate: Gate,
    count: int,
    config: ExploreConfig,
    seed: int,
) -> list[Frames | Failure]:
    """`count` independent walks at the highest temperature, one moment drawn from each.

    Each starts at one of the given structures, drawn at random, with its own noise; the moment is
    uniform over the second half of the walk. A walk that breaks before its moment is a Failure.
    """
    rng = np.random.default_rng(seed)
    origin = rng.integers(len(starts), size=count)
    looks = config.looks(config.audit_fs)
    moment = rng.integers(looks // 2, looks, size=count)
    keys = jax.random.split(jax.random.key(seed), count)
    begins = config.strain.of(concatenate([starts[i] for i in origin]), rng)
    draws: list[Frames | Failure] = []
    for first in range(0, count, config.walkers):
        # the last group is filled up with walkers that are not used, so that one program serves all
        group = np.minimum(np.arange(first, first + config.walkers), count - 1)
        begin = begins[group]
        temperature = jnp.full(len(group), config.temperature_K[1], jnp.float64)
        method = config.dynamics(temperature, rng)
        state = method.init(keys[group], ensemble, begin)
        due, drawn = moment[group], begin
        broken = np.zeros(len(group), bool)
        for look in range(int(due.max()) + 1):
            state, info = simulate(ensemble, method, state, config.stride)
            sound = ~info.broken & gate.sound(state.frames)
            drawn = _where(due == look, _here(begin, state), drawn)
            broken |= ~sound & (due >= look)
            state = state.freeze(~sound | (due <= look))
        walked = split(drawn)
        draws += [
            Failure("The walk broke: atoms clashed, a bond tore, or the forces exploded.")
            if broken[i]
            else walked[i]
            for i in range(min(config.walkers, count - first))
        ]
    return draws


def _where(which: np.ndarray, one: Frames, other: Frames) -> Frames:
    """Frames of one batch where `which`, of another elsewhere."""
    return jax.tree.map(
        lambda a, b: np.where(which.reshape(-1, *[1] * (np.ndim(a) - 1)), a, b), one, other
    )
