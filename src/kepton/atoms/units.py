"""Constants in the units used inside: eV, Å, amu, fs, K (CODATA values as ASE holds them)."""

from ase import units

BOLTZMANN = units.kB
"""eV/K"""
HARTREE = units.Hartree
"""eV"""
BOHR = units.Bohr
"""Å"""
COULOMB = units.Hartree * units.Bohr
"""e^2 / (4 pi eps_0) in eV Å"""
HBAR = units._hbar * units.J * 1e15
"""eV fs"""
GIGAPASCAL = units.GPa
"""eV/Å^3"""
ACCELERATION = units.fs**2
"""Å/fs^2 that a force of 1 eV/Å gives to a mass of 1 amu"""
