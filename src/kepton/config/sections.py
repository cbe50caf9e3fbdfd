"""What all campaign files have in common: sections, and mistakes told with their remedy."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kepton import cores
from kepton.elt.campaign import Goal
from kepton.errors import InputError, did_you_mean
from kepton.execution import Executors, executors

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0.5, lt=1)]


class Section(BaseModel):
    """A section of a campaign file, or all of one."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)


class Guarantee(Section):
    """How surely the error is below the target, for how much of what is visited."""

    confidence: Share = Goal.confidence
    coverage: Share = Goal.coverage


class Budget(Section):
    """When to give up."""

    labels: Count = Goal.labels
    hours: Positive | None = Goal.hours
    failures: Annotated[float, Field(gt=0, le=1)] = Goal.failures


class Run(Section):
    """How the machine is used."""

    workers: Count | None = None
    executor: str = "processes"
    parsl: str | None = None
    seed: Annotated[int, Field(ge=0)] = Goal.seed
    seed_labels: Annotated[int, Field(ge=2)] = Goal.seed_labels
    batch_labels: Count | None = Goal.batch_labels


def goal(error: float, target: Guarantee, budget: Budget, run: Run) -> Goal:
    """What the user asks for.

    Raises:
        InputError: a budget that cannot pay for a certificate
    """
    asked = Goal(
        target=error,
        confidence=target.confidence,
        coverage=target.coverage,
        labels=budget.labels,
        hours=budget.hours,
        failures=budget.failures,
        seed_labels=run.seed_labels,
        batch_labels=run.batch_labels,
        seed=run.seed,
    )
    asked.check()
    return asked


def workforce(run: Run, folder: Path) -> tuple[int, Executors]:
    """Labels in flight at a time, and where they are computed and models made.

    Args:    folder: of the campaign file, to which paths are relative
    """
    workers = run.workers or cores()
    parsl = folder / Path(run.parsl).expanduser() if run.parsl else None
    return workers, executors(run.executor, workers, parsl)


def content_of(path: Path) -> dict[str, Any]:
    """What a TOML file holds."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no campaign file {path}; check the path.")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from error


File = TypeVar("File", bound=Section)


def checked(
    kind: type[File], path: Path, content: dict[str, Any], remedies: Mapping[str, str]
) -> File:
    """The sections of a campaign file, each value of the right type and range.

    Args:    remedies: what to do where a section or a key of that name is missing
    """
    try:
        return kind(**content)
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(kind, error, remedies)}") from error


def _sentence(kind: type[Section], error: ValidationError, remedies: Mapping[str, str]) -> str:
    """The first mistake in words: what is known, what was expected, what came."""
    # an unknown key explains a missing one
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    *place, name = [str(part) for part in first["loc"] if not isinstance(part, int)]
    section = f"[{place[0]}] " if place else ""
    where = kind.model_fields.get(place[0]) if place else None
    known = list(kind.model_fields)
    if where is not None and isinstance(where.annotation, type):
        known = list(getattr(where.annotation, "model_fields", known))
    match first["type"]:
        case "extra_forbidden":
            what = f"key {name!r}" if place else f"section [{name}]"
            start = f"{section}has an unknown {what}" if place else f"there is an unknown {what}"
            return f"{start}{did_you_mean(name, known)}; known are {', '.join(known)}."
        case "missing" if not place:
            return f"the section [{name}] is missing; {remedies.get(name, 'add it')}."
        case "missing":
            return f"{section}{name} is missing; {remedies.get(name, 'add it')}."
    came = first.get("input")
    return f"{section}{name} = {came!r}: {first['msg'][:1].lower()}{first['msg'][1:]}."
