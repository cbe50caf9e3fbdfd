"""The campaign file of the rung `closure`: TOML into typed objects."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from kepton.closure import ClosureProblem, InitialData, Kinetic, Training
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


class Equation(Section):
    """The principle: a kinetic equation."""

    kind: Literal["bgk"]
    velocity_dimensions: Literal[1, 3] = 1
    prandtl: Positive = Kinetic.prandtl


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


class ClosureFile(Section):
    """All sections of a campaign file of closures; [equation] and [target] must be there."""

    equation: Equation
    target: Target
    initial: Initial = Initial()
    budget: Budget = Budget()
    run: Run = Run()
    model: Model = Model()
    train: Train = Train()


REMEDIES = {
    "kind": 'add kind = "bgk"',
    "target": "add [target] with moment_error = 0.01, say",
    "moment_error": "add moment_error = 0.01, say: one per cent",
}


def order(path: Path, content: dict[str, Any]) -> Order:
    """The order in a campaign file of closures.

    Raises:
        InputError: whatever is wrong with the file
    """
    file = checked(ClosureFile, path, content, REMEDIES)
    initial = file.initial.model_dump()
    times = initial.pop("times")
    problem = ClosureProblem(
        Kinetic(file.equation.velocity_dimensions, file.equation.prandtl),
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
