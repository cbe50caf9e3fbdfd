"""The repulsive core of a potential as a LAMMPS table: files of DeePMD-kit have no place for it.

Source: LAMMPS, `pair_style table`
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations_with_replacement
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols

from kepton.potential.deep_potential import DeepPotential

ROWS = 1000
LOWEST = 0.05
"""Å, where the table begins"""
POINTS = 2000
"""Points that LAMMPS is told to interpolate the table to, linearly in r^2"""


def core_table(potential: DeepPotential, path: Path, models: Sequence[Path]) -> str:
    """The text of a table, one section a pair of elements, how to use it in its first lines.

    Energy and force, -dV/dr, of the repulsion V that the potential switches on below its `core`,
    in `units metal`: r in Å, eV, eV/Å.

    Args:    path: of the table;  models: files of DeePMD-kit that were written of the potential
    """
    species = potential.config.species
    names = [chemical_symbols[z] for z in species]
    types = ", ".join(f"{place + 1} = {name}" for place, name in enumerate(names))
    used = graphs(models)
    header = [
        f"Repulsion of Kepton's potential at short distances (ZBL), which {used} lacks.",
        *conversions(models),
        f"In LAMMPS, with units metal and the atom types {types}:",
        *interactions(used, names, path),
    ]
    lines = [f"# {line}" for line in header]
    for i, j in combinations_with_replacement(range(len(species)), 2):
        lines += ["", f"{names[i]}_{names[j]}", *_section(potential, species[i], species[j])]
    return "\n".join(lines) + "\n"


def graphs(models: Sequence[Path]) -> str:
    """Names of the files that LAMMPS reads in place of these."""
    return " ".join(model.with_suffix(".pb").name for model in models)


def conversions(models: Sequence[Path]) -> list[str]:
    """Commands that make those files."""
    return [f"dp convert-backend {model.name} {graphs([model])}" for model in models]


def interactions(deepmd: str, names: Sequence[str], table: Path | None) -> list[str]:
    """Lines of an input that say what acts between atoms.

    Args:
        deepmd: what follows `pair_style deepmd`
        names: of the atom types, in order
        table: of `core_table`; None: there is no core
    """
    elements = " ".join(names)
    if table is None:
        return [f"pair_style deepmd {deepmd}", f"pair_coeff * * {elements}"]
    pairs = combinations_with_replacement(range(len(names)), 2)
    return [
        f"pair_style hybrid/overlay deepmd {deepmd} table linear {POINTS}",
        f"pair_coeff * * deepmd {elements}",
        *(f"pair_coeff {i + 1} {j + 1} table {table.name} {names[i]}_{names[j]}" for i, j in pairs),
    ]


def core_distances(potential: DeepPotential) -> dict[str, float]:
    """Å below which every two elements repel each other, by their names."""
    species, core = potential.config.species, np.asarray(potential.statistics["core"])
    pairs = combinations_with_replacement(range(len(species)), 2)
    return {
        f"{chemical_symbols[species[i]]}-{chemical_symbols[species[j]]}": float(core[i, j])
        for i, j in pairs
    }


def _section(potential: DeepPotential, z: int, other: int) -> list[str]:
    """Number of rows and range, and the rows: place, r, V, -dV/dr."""
    species = potential.config.species
    core = np.asarray(potential.statistics["core"])
    r = jnp.linspace(LOWEST, core[species.index(z), species.index(other)], ROWS)
    value = partial(potential.repulsion, z_i=jnp.asarray(float(z)), z_j=jnp.asarray(float(other)))
    energy = np.asarray(value(r))
    slope = jax.vmap(jax.grad(value))
    force = -np.asarray(slope(r))
    curves = -np.asarray(jax.vmap(jax.grad(jax.grad(value)))(r[jnp.array([0, -1])]))
    head = f"N {ROWS} R {LOWEST} {float(r[-1])!r} FPRIME {curves[0]:.16g} {curves[1]:.16g}"
    rows = zip(np.asarray(r), energy, force)
    return [head, ""] + [f"{k + 1} {x:.16g} {e:.16g} {f:.16g}" for k, (x, e, f) in enumerate(rows)]
