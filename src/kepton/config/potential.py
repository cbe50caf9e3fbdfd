"""The campaign file of the rung `potential`: TOML into typed objects."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from kepton.atoms import GAP, Frames, gaps
from kepton.atoms.crystals import crystal, crystal_slab, interstitials, vacancies
from kepton.atoms.files import read_structures
from kepton.config.order import Order
from kepton.config.sections import (
    Budget,
    Count,
    Guarantee,
    Positive,
    Run,
    Section,
    checked,
    goal,
    workforce,
)
from kepton.dynamics import Shape
from kepton.errors import InputError, did_you_mean
from kepton.potential import ExploreConfig, PotentialProblem, Recipe, TrainConfig
from kepton.potential.geometry import Strain
from kepton.potential.pretrained import ORGANIC, is_organic, named
from kepton.potential.principle import TrainedPotential
from kepton.potential.publish import PotentialPublication
from kepton.potential.recipe import MEMBERS, sizes_of
from kepton.principles import PRINCIPLES, Program

Change = Annotated[float, Field(gt=-0.5, lt=1)]

SHEAR = 1 / 3
"""Of the largest change of the volume: shears are as large as its strain along an axis"""

KINDS: dict[str, Any] = PRINCIPLES | {"kepton": TrainedPotential}
"""Principles by the name that a campaign file gives them"""


class System(Section):
    """What is simulated: files or crystals, and charge and unpaired electrons of them all.

    Beside each crystal stand those with a vacancy, with an interstitial atom, and its surfaces.
    """

    structure: str | list[str] = ""
    crystal: str | list[str] = ""
    atoms: Count | None = None
    vacancies: bool = False
    interstitials: bool = False
    surfaces: str | list[str] = ""
    charge: int | None = None
    spin: Annotated[int, Field(ge=0)] | None = None


class Target(Guarantee):
    """The error to certify, eV/Å, and how surely, for how much of what is visited."""

    force_error: Positive


class Explore(Section):
    """Conditions under which the potential is to hold."""

    temperature_K: tuple[Positive, Positive] = ExploreConfig.temperature_K
    walkers: Annotated[int, Field(ge=4)] | None = None
    walk_fs: Positive = ExploreConfig.walk_fs
    audit_fs: Positive = ExploreConfig.audit_fs
    timestep_fs: Annotated[float, Field(gt=0, le=5)] = ExploreConfig.timestep_fs
    friction_per_fs: Annotated[float, Field(gt=0, le=1)] = ExploreConfig.friction_per_fs
    watch_fs: Positive = ExploreConfig.watch_fs
    volume_change: tuple[Change, Change] = Strain.volume_change
    shear: Annotated[float, Field(ge=0, lt=0.3)] | None = None
    pressure_GPa: tuple[float, float] | None = None
    cell_shape: Shape = ExploreConfig.cell_shape

    @field_validator("temperature_K", "pressure_GPa", mode="before")
    @classmethod
    def _one_or_two(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int | float) else value


class Model(Section):
    """What learns, what is handed out, and their sizes; what is not given follows from the system.

    A size is that of whichever of the two has it. Where the learner begins: "organic", a model file
    or "none"; not given, "organic" where that serves.
    """

    learner: str = "cluster_expansion"
    pretrained: str | None = None
    runner: Literal["deep_potential", "none"] = "deep_potential"
    ensemble_size: Annotated[int, Field(ge=2, le=16)] = MEMBERS
    cutoff_A: Annotated[float, Field(gt=1, le=12)] | None = None
    smooth_A: Annotated[float, Field(ge=0)] | None = None
    basis: Annotated[int, Field(ge=8, le=128)] | None = None
    embedding: tuple[Count, ...] | None = None
    axis: Count | None = None
    fitting: tuple[Count, ...] | None = None
    channels: Count | None = None
    degree: Count | None = None
    hidden: Count | None = None


class Train(Section):
    """Training of every round: see `kepton.potential.TrainConfig`."""

    steps: Count | None = None
    warm_steps: Count | None = None
    batch: Count | None = None
    rate: Annotated[float, Field(gt=0, le=0.1)] | None = None
    energy_weight: Annotated[float, Field(ge=0)] = TrainConfig.energy_weight
    virial_weight: Annotated[float, Field(ge=0)] = TrainConfig.virial_weight
    smoothness: Annotated[float, Field(ge=0)] = TrainConfig.smoothness


class CampaignFile(Section):
    """All sections of a campaign file; [system], [principle] and [target] must be there."""

    system: System
    principle: dict[str, Any]
    target: Target
    budget: Budget = Budget()
    explore: Explore = Explore()
    run: Run = Run()
    model: Model = Model()
    train: Train = Train()


def order(path: Path, content: dict[str, Any]) -> Order:
    """The order in a campaign file of potentials; paths in it are relative to the file.

    Raises:
        InputError: whatever is wrong with the file, the structures, or what the principle can do
    """
    file = checked(CampaignFile, path, content, REMEDIES)
    structures = _structures(file.system, path.parent)
    principle = _principle(file.principle, path.parent)
    for frames in structures:
        principle.check(frames)
        if isinstance(principle, Program):
            principle = principle.settled(frames)
    exploration = _exploration(file.explore)
    _check_cells(exploration, structures)
    _check_crystals(file.system)
    learner, runner = _recipes(file, structures, path.parent)
    asked = goal(file.target.force_error, file.target, file.budget, file.run)
    problem = PotentialProblem(tuple(structures), principle, exploration, learner, runner)
    choices = {
        "explore": asdict(problem.exploration),
        "learner": learner.settings,
        "runner": runner and runner.settings,
    }
    publication = PotentialPublication(problem)
    return Order(path, problem, publication, asked, *workforce(file.run, path.parent), choices)


REMEDIES = {
    "system": 'add [system] with structure = "FILE", anything that ASE reads, or crystal = "Si"',
    "principle": 'add [principle] with kind = "pyscf", "xtb", "espresso", "ase" or another',
    "target": "add [target] with force_error = 0.1 (eV/Å), say",
    "force_error": "add force_error = 0.1 (eV/Å), say",
}


def _recipes(
    file: CampaignFile, structures: list[Frames], folder: Path
) -> tuple[Recipe, Recipe | None]:
    """How the learner and the runner are made; no runner where the learner is one."""
    sizes = file.model.model_dump(exclude_none=True, exclude={"pretrained"})
    learner, runner, members = (sizes.pop(name) for name in ("learner", "runner", "ensemble_size"))
    names = [learner] if runner in ("none", learner) else [learner, runner]
    known = {name: sizes_of(name) for name in names}
    for size in sizes:
        if not any(size in its for its in known.values()):
            raise InputError(
                f"[model] {size} is not a size of {' or '.join(names)}; there is "
                f"{', '.join(dict.fromkeys(s for its in known.values() for s in its))}."
            )
    own = {name: {s: v for s, v in sizes.items() if s in its} for name, its in known.items()}
    training = file.train.model_dump(exclude_none=True)
    pretrained = _pretrained(file.model, own[learner], structures, folder)
    recipe = Recipe.of(learner, structures, own[learner], training, members, pretrained)
    if len(names) == 1:
        return recipe, None
    return recipe, recipe.taught(runner, structures, own[runner])


def _pretrained(
    model: Model, sizes: dict[str, Any], structures: list[Frames], folder: Path
) -> Path | None:
    """The model file that the learner begins with."""
    if model.pretrained is None:
        fits = model.learner == Model().learner and not sizes and model.ensemble_size <= MEMBERS
        return ORGANIC if fits and is_organic(structures) else None
    if model.pretrained == "none":
        return None
    if sizes:
        raise InputError(
            f"[model] {', '.join(sizes)} beside pretrained = {model.pretrained!r}: a pretrained "
            'model has sizes of its own; leave one of the two out, or give pretrained = "none".'
        )
    return named(model.pretrained, folder)


def _structures(system: System, folder: Path) -> list[Frames]:
    found = [
        atoms
        for name in _listed(system.structure)
        for atoms in read_structures(folder / Path(name).expanduser())
    ]
    for description in _listed(system.crystal):
        cell = crystal(description, system.atoms)
        found.append(cell)
        found += vacancies(cell) if system.vacancies else []
        found += interstitials(cell) if system.interstitials else []
        found += [crystal_slab(description, plane) for plane in _listed(system.surfaces)]
    if not found:
        raise InputError(
            '[system] names no structure; give structure = "FILE", anything that ASE reads, or '
            'crystal = "Si", a formula with prototype and lattice constant where needed, such as '
            '"NaCl rocksalt 5.64".'
        )
    for atoms in found:
        if system.charge is not None:
            atoms.info["charge"] = system.charge
        if system.spin is not None:
            atoms.info["spin"] = system.spin
    return [Frames.from_ase([atoms]) for atoms in found]


def _listed(names: str | list[str]) -> list[str]:
    return names if isinstance(names, list) else [names] if names else []


def _principle(options: dict[str, Any], folder: Path) -> Any:
    options = dict(options)
    if "kind" not in options:
        given = "".join(f"; {name!r} is not it" for name in options if did_you_mean(name, ["kind"]))
        raise InputError(f"[principle] kind is missing{given}; give one of {', '.join(KINDS)}.")
    kind = options.pop("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(
            f"[principle] kind = {kind!r} is not known{did_you_mean(str(kind), KINDS)}; there is "
            f"{', '.join(KINDS)}."
        )
    engine = KINDS[kind]
    types = {f.name: f.type for f in fields(engine) if f.init and f.metadata.get("setting", True)}
    for name, value in options.items():
        if name not in types:
            raise InputError(
                f"[principle] has an unknown key {name!r} for kind = {kind!r}"
                f"{did_you_mean(name, types)}; known are {', '.join(types)}."
            )
        if not _fits(value, types[name]):
            raise InputError(
                f"[principle] {name} = {value!r} is of the wrong type; expected "
                f"{getattr(types[name], '__name__', types[name])}."
            )
    works, how = engine.availability()
    if not works and "command" not in options:  # a program that is named is looked for by itself
        raise InputError(f"kind = {kind!r} does not work on this machine: {how}")
    for name, expected in types.items():
        if expected is Path and name not in options:
            raise InputError(f"[principle] {name} is missing for kind = {kind!r}; name a file.")
        if expected in (Path, Path | None) and name in options:
            options[name] = folder / Path(options[name]).expanduser()
    return engine(**options)


def _fits(value: Any, expected: Any) -> bool:
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected in (float, float | None):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is bool:
        return isinstance(value, bool)
    if expected in (str, str | None, Path, Path | None):
        return isinstance(value, str)
    return True


def _exploration(explore: Explore) -> ExploreConfig:
    for name, ends in (
        ("temperature_K", "the lowest and the highest temperature"),
        ("volume_change", "the least and the largest relative change of the volume"),
        ("pressure_GPa", "the lowest and the highest pressure"),
    ):
        low, high = getattr(explore, name) or (0.0, 0.0)
        if low > high:
            raise InputError(
                f"[explore] {name} = [{low:g}, {high:g}]: the first is above the second; give "
                f"{ends}, in this order."
            )
    if explore.watch_fs < explore.timestep_fs or explore.watch_fs > explore.walk_fs:
        raise InputError(
            f"[explore] watch_fs = {explore.watch_fs:g} must lie between timestep_fs = "
            f"{explore.timestep_fs:g} and walk_fs = {explore.walk_fs:g}."
        )
    if explore.audit_fs < 2 * explore.watch_fs:
        raise InputError(
            f"[explore] audit_fs = {explore.audit_fs:g} is less than two looks of watch_fs = "
            f"{explore.watch_fs:g}; give a longer audit_fs."
        )
    chosen = explore.model_dump(exclude_none=True)
    change, shear = chosen.pop("volume_change"), chosen.pop("shear", None)
    if shear is None:
        shear = SHEAR * max(map(abs, change))
    return ExploreConfig(**chosen, strain=Strain(change, shear))


def _check_crystals(system: System) -> None:
    """Raise InputError where what stands beside crystals has none."""
    for name in ("vacancies", "interstitials", "surfaces"):
        if getattr(system, name) and not system.crystal:
            raise InputError(
                f"[system] {name} are those of a crystal, and none is named; give crystal = 'Cu', "
                f"say, or leave {name} out and give files that hold them: structure = [...]."
            )


def _check_cells(exploration: ExploreConfig, structures: list[Frames]) -> None:
    """Raise InputError where cells are to change that are not there, or would not last."""
    if all(np.all(frames.pbc) for frames in structures):
        if exploration.pressure_GPa and any(np.any(gaps(s) > GAP) for s in structures):
            raise InputError(
                "[explore] pressure_GPa with a slab, or another structure with more than "
                f"{GAP:g} Å of vacuum: it would close; give volume_change instead, or explore "
                "surfaces in a campaign of their own."
            )
        return
    for name, changes in (
        ("pressure_GPa", exploration.pressure_GPa is not None),
        ("volume_change", any(exploration.strain.volume_change)),
    ):
        if changes:
            raise InputError(
                f"[explore] {name} needs structures that are periodic along all three cell "
                "vectors; give them cells, or leave it out."
            )
