"""Molecules as SMILES -> three conformers each, with hydrogen, by RDKit and its MMFF force field.

python pretraining/structures.py pretraining/molecules.txt OUT.extxyz
"""

import sys
from pathlib import Path

from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem

SEEDS = 1, 2, 3


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    RDLogger.DisableLog("rdApp.*")
    blocks = []
    for smiles in source.read_text().split():
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        for seed in SEEDS:
            if AllChem.EmbedMolecule(molecule, randomSeed=seed) != 0:
                continue
            if AllChem.MMFFHasAllMoleculeParams(molecule):
                AllChem.MMFFOptimizeMolecule(molecule)
            places = molecule.GetConformer().GetPositions()
            rows = [
                f"{atom.GetSymbol()} {x:.5f} {y:.5f} {z:.5f}"
                for atom, (x, y, z) in zip(molecule.GetAtoms(), places)
            ]
            head = f'Properties=species:S:1:pos:R:3 name="{smiles}"'
            blocks.append("\n".join((str(len(rows)), head, *rows)))
    target.write_text("\n".join(blocks) + "\n")


if __name__ == "__main__":
    main()
