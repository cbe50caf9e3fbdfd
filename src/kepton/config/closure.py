"""The campaign file of the rung `closure`: TOML into typed objects."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from kepton.closure import Boltzmann, ClosureProblem, InitialData, Kinetic, Training
from kepton.closure.publish import ClosurePublication
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
from kepton.errors import InputError


class Equation(Section):
    """The principle: a kinetic equation."""

    kind: Literal["bgk", "boltzmann"]
    velocity_dimensions: Literal[1, 3] = 1
    prandtl: Positive = Kinetic.prandtl
    degree: int = Boltzmann.degree


class Target(Guarantee):
    """The relative error of the conserved moments to certify, and how surely, for how much."""

    moment_error: Positive


class Initial(Section):
    """What the closure is to hold for, and until when."""

    kinds: tuple[str, ...] = InitialData.kinds
    modes: Count = InitialData.modes
    amplitude: Annotated[float, Field(gt=0, lt=0.9)] = InitialData.amplitude
    velocity: Annotated[float, Field(ge=0, le=2)] = InitialData.velocity
    knudsen: tuple[Positive, Positive] = InitialData.knudsen
    cells: Count = InitialData.cells
    times: tuple[Positive, ...] = ClosureProblem.times


class Model(Section):
    """The moments of the closed system, and the ensemble."""

    order: int = ClosureProblem.order
    ensemble_size: Annotated[int, Field(ge=2, le=16)] = ClosureProblem.members


class Train(Section):
    """Training of every round: see `kepton.closure.Training`."""

    steps: Count = Training.steps
    warm_steps: Count = Training.warm_steps
    batch: Count = Training.batch
    rate: Annotated[float, Field(gt=0, le=1)] = Training.rate


class ClosureRun(Run):
    """How the machine is used, and how many gases teach a closure most of what it learns."""

    seed_labels: Annotated[int, Field(ge=2)] = 2


class ClosureFile(Section):
    """All sections of a campaign file of closures; [equation] and [target] must be there."""

    equation: Equation
    target: Target
    initial: Initial = Initial()
    budget: Budget = Budget()
    run: ClosureRun = ClosureRun()
    model: Model = Model()
    train: Train = Train()


REMEDIES = {
    "kind": 'add kind = "bgk" or kind = "boltzmann"',
    "target": "add [target] with moment_error = 0.01, say",
    "moment_error": "add moment_error = 0.01, say: one per cent",
}


KEYS = {"bgk": ("velocity_dimensions", "prandtl"), "boltzmann": ("degree",)}
"""Of [equation], by its kind"""


def _equation(given: Equation) -> Kinetic:
    foreign = sorted(given.model_fields_set - {"kind", *KEYS[given.kind]})
    if foreign:
        raise InputError(
            f"[equation] {foreign[0]} is not a key of kind = {given.kind!r}, of which there is "
            f"{' and '.join(KEYS[given.kind])}. Boltzmann's equation is that of Maxwell molecules, "
            "with three dimensions of velocity space and a Prandtl number of 2/3."
        )
    if given.kind == "boltzmann":
        return Boltzmann(given.degree)
    return Kinetic(given.velocity_dimensions, given.prandtl)


def order(path: Path, content: dict[str, Any]) -> Order:
    """The order in a campaign file of closures.

    Raises:
        InputError: whatever is wrong with the file
    """
    file = checked(ClosureFile, path, content, REMEDIES)
    initial = file.initial.model_dump()
    times = initial.pop("times")
    problem = ClosureProblem(
        _equation(file.equation),
        InitialData(**initial),
        times,
        file.model.order,
        file.model.ensemble_size,
        Training(**file.train.model_dump()),
    )
    problem.check()
    asked = goal(file.target.moment_error, file.target, file.budget, file.run)
    return Order(
        path,
        problem,
        ClosurePublication(problem),
        asked,
        *workforce(file.run, path.parent),
        {"rung": "closure"},
    )
