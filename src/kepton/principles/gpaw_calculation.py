"""One calculation by GPAW, as a program of its own: gpaw.json in, lines of JSON among its log.

It is copied to the calculation's folder and run there, so it imports nothing of Kepton.
"""

import json
import sys
from importlib import import_module

RESULT, UNCONVERGED, STOPPED = "RESULT: ", "DID NOT CONVERGE: ", "STOPPED: "


def main(path: str) -> None:
    """Read a structure and GPAW's settings, print its log and what came of it."""
    import ase

    gpaw = import_module("gpaw")
    world = import_module("gpaw.mpi").world

    def tell(kind: str, what: object) -> None:
        if world.rank == 0:
            print(f"{kind}{json.dumps(what)}", flush=True)

    with open(path) as file:
        given = json.load(file)
    atoms = ase.Atoms(**given["atoms"])
    try:
        calculator = atoms.calc = gpaw.GPAW(txt="-", **given["settings"])
        result = {
            "energy": atoms.get_potential_energy(force_consistent=True),
            "forces": atoms.get_forces().tolist(),
            "stress": atoms.get_stress().tolist(),
            "electrons": [
                sum(
                    float(calculator.get_occupation_numbers(point, spin).sum())
                    for spin in range(calculator.get_number_of_spins())
                )
                / weight
                for point, weight in enumerate(calculator.get_k_point_weights())
            ],
        }
    except gpaw.KohnShamConvergenceError as error:
        tell(UNCONVERGED, str(error))
    except Exception as error:
        tell(STOPPED, f"{type(error).__name__}: {error}")
    else:
        tell(RESULT, result)


if __name__ == "__main__":
    main(sys.argv[1])
