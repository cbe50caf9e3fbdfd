"""PySCF: density functional theory of molecules, with Gaussian basis sets."""

import contextlib
import importlib.util
import io
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kepton.atoms import Frames, Label
from kepton.atoms.units import BOHR, HARTREE
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.principles.principle import Refusal, answer, check_electrons, nearest

MEMORY_MB = 2000
"""Above it PySCF keeps integrals in a temporary file that it removes."""


@dataclass(frozen=True)
class PySCF:
    """Restricted (spin = 0) or unrestricted Kohn-Sham energy and analytic forces of a molecule.

    Forces are derivatives of the energy that the integration grid gives (`grid_response`), so
    they are consistent with it on any grid; a coarse grid shows as a net torque instead.

    A calculation that does not converge is tried again from its last density with level shift and
    damping, then by second-order SCF. Smearing is no further rung: its forces are the derivatives
    of the free energy (to 2e-8 hartree/bohr), but of another surface than the other labels lie on,
    0.15 eV lower for water with one bond at 1.9 Å and a smearing of 0.27 eV.

    Args:
        xc: functional as PySCF spells it; "hf" is Hartree-Fock
        basis: basis set, with its effective core potentials where it has some
        density_fit: Coulomb and exchange integrals by density fitting
        grid_level: 0 (coarse) to 9 (fine), PySCF's integration grids
        conv_tol: energy change at convergence, hartree
        max_cycles: SCF iterations in each of the three attempts
        dispersion: "d3bj", "d3zero", "d4", ... or None

    Source: Sun et al., J. Chem. Phys. 153, 024109 (2020)
    """

    xc: str = "pbe"
    basis: str = "def2-svp"
    density_fit: bool = True
    grid_level: int = 3
    conv_tol: float = 1e-9
    max_cycles: int = 100
    dispersion: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """JSON of everything that decides a label."""
        return {"kind": "pyscf", **asdict(self)}

    def check(self, frames: Frames) -> None:
        """Raise InputError where PySCF cannot label such frames with such settings."""
        self._check_numbers()
        if np.any(frames.pbc):
            raise InputError(
                "kind = 'pyscf' labels molecules, but the structure is periodic; remove its cell "
                "(pbc = F F F), or use kind = 'xtb', or kind = 'ase' with a periodic engine."
            )
        check_electrons(frames)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            self._check_basis(frames.symbols)
            self._check_functional()
            self._check_dispersion(frames)

    def _check_numbers(self) -> None:
        for name, value, fits, expected in (
            ("grid_level", self.grid_level, 0 <= self.grid_level <= 9, "0 (coarse) to 9 (fine)"),
            ("conv_tol", self.conv_tol, 0 < self.conv_tol <= 1e-4, "hartree above 0, up to 1e-4"),
            ("max_cycles", self.max_cycles, self.max_cycles > 0, "1 or more, such as 100"),
        ):
            if not fits:
                raise InputError(f"{name} = {value}; give {expected}.")

    def _check_basis(self, symbols: tuple[str, ...]) -> None:
        from pyscf.gto.basis import ALIAS

        def lacking(basis):
            return [symbol for symbol in symbols if not _functions(basis, symbol)]

        name = self.basis.lower().replace("-", "").replace("_", "").replace(" ", "")
        pople = name.startswith(("321", "431", "631")) and _functions(self.basis, "H")
        if name not in ALIAS and not pople:
            raise InputError(
                f"basis = {self.basis!r} is not a basis set that PySCF knows"
                f"{nearest(name, ALIAS)}; give a name such as 'def2-svp' or 'def2-tzvp'."
            )
        if missing := lacking(self.basis):
            complete = [
                b for b in ("def2-svp", "def2-tzvp", "ano-rcc", "dyall-v2z") if not lacking(b)
            ]
            advice = f"e.g. basis = {complete[0]!r}" if complete else "or kind = 'ase'"
            raise InputError(
                f"basis = {self.basis!r} has no functions for {', '.join(missing)}; use one that "
                f"covers {', '.join(symbols)}, {advice}."
            )

    def _check_functional(self) -> None:
        from pyscf.dft import libxc
        from pyscf.scf.dispersion import parse_dft

        try:
            parse_dft(self.xc)
            (exchange, *_), functionals = libxc.parse_xc(self.xc)
            known = bool(exchange or functionals)
            laplacian = known and libxc.needs_laplacian(self.xc)
        except (KeyError, ValueError, NotImplementedError, IndexError):
            known = laplacian = False
        if not known:
            names = [key.lower() for key in (*libxc.XC_ALIAS, *libxc.XC_CODES)]
            raise InputError(
                f"xc = {self.xc!r} is not a functional that PySCF knows"
                f"{nearest(self.xc.lower(), names)}; give a name such as 'pbe', 'pbe0', 'r2scan' "
                "or 'wb97x-v'."
            )
        if laplacian:
            raise InputError(
                f"xc = {self.xc!r} needs the Laplacian of the density, for which PySCF has no "
                "forces; give a functional without it, such as 'r2scan'."
            )

    def _check_dispersion(self, frames: Frames) -> None:
        from pyscf.scf.dispersion import DISP_VERSIONS, parse_disp

        try:
            _, version, _ = parse_disp(self.xc, self.dispersion)
        except ValueError:
            version = self.dispersion
        if not version:
            return
        if version not in DISP_VERSIONS:
            raise InputError(
                f"dispersion = {version!r} is not known{nearest(version, DISP_VERSIONS)}; give "
                f"one of {', '.join(DISP_VERSIONS)}, or leave it out."
            )
        if not _has_dispersion():
            raise InputError(
                f"dispersion = {version!r} needs the package pyscf-dispersion, which is not "
                "installed; run: pip install 'kepton[dispersion]'"
            )
        try:
            self._mean_field(frames[:1]).get_dispersion()
        except Exception as error:
            raise InputError(
                f"dispersion = {version!r} has no parameters for xc = {self.xc!r} ({error}); give "
                "another of the two, such as xc = 'pbe' with dispersion = 'd3bj'."
            ) from error

    def __call__(self, frames: Frames) -> Label | Failure:
        """Energy and forces of one molecule, on one thread; the virial is nan."""
        return answer(self._label, frames)

    def _label(self, frames: Frames) -> Label:
        import pyscf.dft

        with pyscf.lib.with_omp_threads(1), contextlib.redirect_stderr(io.StringIO()):
            mean_field = self._converged(self._mean_field(frames))
            gradients = mean_field.nuc_grad_method()
            gradients.grid_response = pyscf.dft.libxc.xc_type(self.xc) != "HF"  # no grid then
            forces = -gradients.kernel() * HARTREE / BOHR
        method = "UKS" if frames.spin[0] else "RKS"
        xc = self.xc.upper() + (f"-{self.dispersion}" if self.dispersion else "")
        return Label(
            energy=np.array([mean_field.e_tot * HARTREE]),
            forces=forces[None],
            virial=np.full((1, 3, 3), np.nan),
            engine=f"pyscf {pyscf.__version__} {method}/{xc}/{self.basis}",
        )

    def _mean_field(self, frames: Frames) -> Any:
        from pyscf import dft, gto

        molecule = gto.M(
            atom=[
                (int(z), tuple(x / BOHR))
                for z, x in zip(frames.species[0], np.asarray(frames.positions[0], float))
            ],
            unit="Bohr",
            basis=self.basis,
            ecp={s: self.basis for s in frames.symbols if _has_core(self.basis, s)},
            charge=int(frames.charge[0]),
            spin=int(frames.spin[0]),
            verbose=0,
            max_memory=MEMORY_MB,
            dump_input=False,
            parse_arg=False,
        )
        mean_field: Any = (dft.UKS if molecule.spin else dft.RKS)(molecule, xc=self.xc)
        if self.density_fit:
            mean_field = mean_field.density_fit()
        mean_field.chkfile = None
        mean_field.grids.level = self.grid_level
        mean_field.conv_tol = self.conv_tol
        mean_field.max_cycle = self.max_cycles
        if self.dispersion:
            mean_field.disp = self.dispersion
        return mean_field

    def _converged(self, mean_field: Any) -> Any:
        mean_field.kernel()
        if not mean_field.converged:
            mean_field.level_shift, mean_field.damp = 0.3, 0.5
            mean_field.kernel(mean_field.make_rdm1())
            mean_field.level_shift, mean_field.damp = 0.0, 0.0
        if not mean_field.converged:
            mean_field = mean_field.newton()
            mean_field.kernel(mean_field.mo_coeff, mean_field.mo_occ)
        if not mean_field.converged:
            raise Refusal(
                f"The SCF did not converge to {self.conv_tol:g} hartree in three times "
                f"{self.max_cycles} cycles: plain, with level shift and damping, second-order."
            )
        return mean_field

    @staticmethod
    def availability() -> tuple[bool, str]:
        """Whether it works on this machine, and its version or how to get it."""
        try:
            import pyscf
        except ImportError as error:
            return False, f"pip install pyscf ({error})"
        extra = "with" if _has_dispersion() else "pip install 'kepton[dispersion]' for"
        return True, f"pyscf {pyscf.__version__}, {extra} dispersion"


def _functions(basis: str, symbol: str) -> list:
    from pyscf import gto

    try:
        return gto.basis.load(basis, symbol)
    except Exception:  # PySCF raises KeyError, AttributeError or its own, by the kind of basis
        return []


def _has_core(basis: str, symbol: str) -> bool:
    """Whether the basis set is made for an effective core potential, which PySCF would not add."""
    from pyscf import gto

    try:
        return bool(gto.basis.load_ecp(basis, symbol))
    except Exception:
        return False


def _has_dispersion() -> bool:
    return importlib.util.find_spec("pyscf.dispersion") is not None
