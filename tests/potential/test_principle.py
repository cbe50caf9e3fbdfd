"""A trained potential labels: what it says, keyed by what is in its file."""

import pickle

import numpy as np
import pytest
from ase.build import molecule as build

from kepton.atoms import Frames
from kepton.elt import Failure
from kepton.errors import InputError
from kepton.potential.file import load_ensemble, save
from kepton.potential.principle import TrainedPotential


@pytest.fixture(scope="module")
def model(tmp_path_factory, trained):
    path = tmp_path_factory.mktemp("principle") / "model.kepton"
    save(path, trained)
    return path


def test_its_label_is_what_the_potential_says(model, labelled):
    frames = labelled[0][:1]
    principle = pickle.loads(pickle.dumps(TrainedPotential(model)))
    label = principle(frames)
    atoms = frames.to_ase()[0]
    atoms.calc = load_ensemble(model, exact=True)[0].calculator()
    np.testing.assert_allclose(label.forces[0], atoms.get_forces(), atol=1e-12)
    assert label.energy[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    assert np.isnan(label.virial).all()


def test_labels_belong_to_the_content_of_the_file(model, tmp_path, untrained):
    other = tmp_path / "other.kepton"
    other.write_bytes(model.read_bytes())
    assert TrainedPotential(other).settings == TrainedPotential(model).settings
    save(other, untrained)
    assert TrainedPotential(other).settings != TrainedPotential(model).settings


def test_what_it_cannot_label_is_refused(model, tmp_path, broken, labelled):
    with pytest.raises(InputError, match="has Cl too"):
        TrainedPotential(model).check(Frames.from_ase([build("CH3Cl")]))
    with pytest.raises(InputError, match="no model file"):
        TrainedPotential(tmp_path / "nowhere.kepton").check(labelled[0][:1])
    wrong = tmp_path / "wrong.kepton"
    save(wrong, broken.with_dtype(np.float32))
    far = labelled[0][:1].with_positions(np.full_like(labelled[0].positions[:1], np.nan))
    assert isinstance(TrainedPotential(wrong)(far), Failure)
