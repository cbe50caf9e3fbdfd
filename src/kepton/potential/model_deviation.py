"""`model_devi.out`, the disagreement of an ensemble as LAMMPS writes it and DP-GEN reads it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from kepton.atoms.frames import Frames
from kepton.atoms.neighbors import Neighbors
from kepton.devices import jitted
from kepton.errors import InputError
from kepton.potential.ensemble import Ensemble, atom_deviation

COLUMNS = tuple(f"{which}_devi_{of}" for of in "vf" for which in ("max", "min", "avg"))
HEADER = f"#{'step':>11}" + "".join(f"{name:>19}" for name in COLUMNS)


@jitted
def model_deviation(
    ensemble: Ensemble, frames: Frames, neighbors: Neighbors
) -> Float[Array, "b 6"]:
    """Largest, least and mean deviation of the virial and of the forces, by frame.

    e_i = sqrt(< |F_i - <F_i>|^2 >),  its mean over atoms;   v_ab = sqrt(< (W_ab - <W_ab>)^2 >) / n,
    its root mean square over the nine components; < > over members, n atoms

    Returns: by column of COLUMNS: eV an atom, eV/Å
    Source:  DeePMD-kit 3.2, `pair_style deepmd` of LAMMPS with several models
    """
    answers = ensemble.answers(frames, neighbors)
    atoms = jnp.asarray(frames.mask).sum(axis=1)
    virial = answers.virial.std(axis=0).reshape(len(frames), 9) / atoms[:, None]
    forces = atom_deviation(answers.forces)
    least = jnp.where(frames.mask, forces, jnp.inf).min(axis=1)
    columns = [virial.max(axis=1), virial.min(axis=1), jnp.sqrt((virial**2).mean(axis=1))]
    columns += [forces.max(axis=1), least, forces.sum(axis=1) / atoms]
    return jnp.stack(columns, axis=1)


def line(step: int, values: Float[Array, "6"]) -> str:
    """One line of the file."""
    return f"{step:12d}" + "".join(f"{float(value):19.6e}" for value in values)


def check_members(ensemble: Ensemble) -> None:
    """Raise InputError where there is nobody to disagree with."""
    if ensemble.size < 2:
        raise InputError(
            "The deviation (--model-devi, --max-deviation) is the disagreement of several members, "
            "and this model has one; give a model of two members or more."
        )
