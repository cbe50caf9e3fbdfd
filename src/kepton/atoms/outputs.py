"""Outputs of first-principles programs: whose they are, and which calculations converged.

Programs go on from a self-consistency cycle that did not converge, and print energies and forces as
if nothing had happened. Such frames are no labels.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kepton.errors import InputError

HEAD = 50_000
"""Bytes at the beginning of a file in which a program names itself"""
Lines = list[str]


@dataclass(frozen=True)
class Output:
    """How the output of a program is told, read and judged.

    Args:
        program: its name
        itself: what it says of itself in the head of the file
        format: ASE's name of the format, or "cp2k"
        ends: a line, one for each configuration, after the end of its self-consistency cycle
        settings: lines that hold from there on for all of the file
        cycle: lines of a self-consistency cycle on which the judgement rests
        defect: what is wrong with a cycle, from both kinds of lines; empty where it converged
    """

    program: str
    itself: str
    format: str
    ends: str
    settings: str
    cycle: str
    defect: Callable[[Lines, Lines], str]


@dataclass(frozen=True)
class Judgement:
    """What a program's output says of convergence.

    Args:
        path: the file
        output: of which program
        defects: of each configuration that has results, empty where it converged
        unfinished: what is wrong with a last cycle without results; empty where there is none
    """

    path: Path
    output: Output
    defects: list[str]
    unfinished: str

    @property
    def refused(self) -> list[str]:
        """What is wrong, one for each calculation that did not converge."""
        return [defect for defect in [*self.defects, self.unfinished] if defect]

    @property
    def converged(self) -> list[int]:
        """The frames that are labels."""
        return [i for i, defect in enumerate(self.defects) if not defect]

    def told(self) -> str:
        """How many calculations are refused, and why the first of them is."""
        count = len(self.defects) + bool(self.unfinished)
        return (
            f"{self.path}: {len(self.refused)} of {count} calculations of {self.output.program} "
            f"did not converge ({self.refused[0]})"
        )

    def check(self, frames: int | None = None) -> None:
        """Raise InputError where nothing converged, or cycles are not those of the frames read."""
        whole = frames is None or frames - len(self.defects) in (0, bool(self.unfinished))
        if self.refused and not (self.converged and whole):
            raise InputError(
                f"{self.told()}, so its energies and forces are no labels; repeat them with more "
                "cycles or more careful mixing, or leave the file out."
            )


def output_in(path: Path) -> Output | None:
    """Of which program a file is the output; None where of none that is known here."""
    with path.open("rb") as file:
        head = file.read(HEAD).decode("utf-8", "replace")
    return next((o for o in OUTPUTS if re.search(o.itself, head, re.MULTILINE)), None)


def judgement(path: Path) -> Judgement | None:
    """What a file says of convergence; None where no program that is known here wrote it."""
    output = output_in(path)
    if output is None:
        return None
    ends, lasts, tells = (re.compile(p) for p in (output.ends, output.settings, output.cycle))
    defects: list[str] = []
    settings: Lines = []
    cycle: Lines = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if lasts.search(line):
                settings.append(line)
            if tells.search(line):
                cycle.append(line)
            if ends.search(line):
                defects.append(output.defect(settings, cycle))
                cycle = []
    return Judgement(path, output, defects, output.defect(settings, cycle))


NOTHING = r"(?!)"
_NUMBER = r"([-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?)"


def _last(pattern: str, lines: Lines) -> float | None:
    found = [match for line in lines if (match := re.search(pattern, line))]
    return float(found[-1][1].replace("D", "E").replace("d", "e")) if found else None


def _said(_: Lines, cycle: Lines) -> str:
    """Every line kept of such a cycle tells of its failure."""
    return " ".join(cycle[0].split()).strip("* ") if cycle else ""


def _espresso(settings: Lines, cycle: Lines) -> str:
    if cycle and "NOT achieved" in cycle[-1]:
        return " ".join(cycle[-1].split())
    accuracy = _last(rf"estimated scf accuracy\s+<\s+{_NUMBER}", cycle)
    threshold = _last(rf"=\s+{_NUMBER}", settings)
    # with scf_must_converge = .false. pw.x says that it converged when it has not
    if accuracy is not None and threshold is not None and accuracy > threshold:
        return f"estimated scf accuracy {accuracy:g} Ry where {threshold:g} was asked for"
    return ""


def _vasp(settings: Lines, cycle: Lines) -> str:
    # "aborting loop because EDIFF is reached" is printed whether it was reached or not
    return _out_of_cycles(
        _last(r"NELM\s*=\s*(\d+)", settings),
        _last(rf"EDIFF\s*=\s*{_NUMBER}", settings),
        _last(r"Iteration\s+\d+\(\s*(\d+)\)", cycle),
        _last(rf"total energy-change \(2\. order\)\s*:\s*{_NUMBER}", cycle),
    )


def _vasp_xml(settings: Lines, cycle: Lines) -> str:
    most, asked = (_last(rf'"{name}">\s*([\d.E+-]+)', settings) for name in ("NELM", "EDIFF"))
    steps: list[list[float]] = []
    for line in cycle:
        if "<scstep" in line:
            steps.append([])
        elif steps and "</scstep" not in line:
            steps[-1] += [float(number) for number in re.findall(r">\s*([-\d.E+]+)", line)]
    energies = [step[-1] for step in steps if step]
    change = energies[-1] - energies[-2] if len(energies) > 1 else None
    return _out_of_cycles(most, asked, float(len(steps)), change)


def _out_of_cycles(
    most: float | None, asked: float | None, cycles: float | None, change: float | None
) -> str:
    if most is None or cycles is None or cycles < most:
        return ""
    if asked is not None and change is not None and abs(change) < asked:
        return ""
    return f"EDIFF was not reached in NELM = {most:g} cycles"


OUTPUTS = (
    Output(
        "Quantum ESPRESSO",
        r"Program PWSCF",
        "espresso-out",
        r"convergence has been achieved",
        r"convergence threshold\s+=|new conv_thr\s+=",
        r"estimated scf accuracy|convergence NOT achieved",
        _espresso,
    ),
    Output(
        "VASP",
        r"<modeling>[\s\S]*<i name=\"program\"[^>]*>vasp",
        "vasp-xml",
        r"</calculation>",
        r'name="NELM"|name="EDIFF"',
        r'</?scstep|name="e_fr_energy"',
        _vasp_xml,
    ),
    Output(
        "VASP",
        r"^\s*vasp\.\d",
        "vasp-out",
        r"FREE ENERGIE OF THE ION-ELECTRON SYSTEM",
        r"^\s+NELM\s+=|^\s+EDIFF\s+=",
        r"Iteration|total energy-change",
        _vasp,
    ),
    Output(
        "CP2K",
        r"CP2K\| version string",
        "cp2k",
        r"ENERGY\| Total FORCE_EVAL",
        NOTHING,
        r"SCF run NOT converged",
        _said,
    ),
    Output(
        "ABINIT",
        r"\.Version\s+\S+\s+of ABINIT",
        "abinit-out",
        r"iterations are completed or convergence reached",
        NOTHING,
        r"not enough (SCF|scf) cycles to converge",
        _said,
    ),
    Output(
        "GPAW",
        r" ___ ___ ___ _ _ _",
        "gpaw-out",
        r"^Free energy:",
        NOTHING,
        r"Did not converge",
        _said,
    ),
    Output(
        "FHI-aims",
        r"Invoking FHI-aims",
        "aims-output",
        r"\| Total energy of the DFT / Hartree-Fock s\.c\.f\. calculation",
        NOTHING,
        r"Self-consistency cycle not|cycle not (yet )?converged|NOT CONVERGED",
        _said,
    ),
    Output(
        "ORCA",
        r"\* O   R   C   A \*",
        "orca-output",
        r"FINAL SINGLE POINT ENERGY",
        NOTHING,
        r"SCF NOT CONVERGED|(not|NOT) (fully|FULLY) (converged|CONVERGED)|HAS NOT CONVERGED",
        _said,
    ),
    Output(
        "Gaussian",
        r"Entering Gaussian System",
        "gaussian-out",
        r"SCF Done:",
        NOTHING,
        r"Convergence criterion not met",
        _said,
    ),
)
"""In the order in which a file is compared with them"""
