"""Files of DeePMD-kit are the same function here, or are refused in a sentence."""

import json
from dataclasses import replace

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from deep_potentials import FUNCTIONS, PLAIN, SPECIES, cluster, energy_of, random_potential

import kepton
from kepton.atoms import Frames
from kepton.errors import InputError
from kepton.potential.deepmd_kit import read
from kepton.potential.deepmd_kit.container import write_tree
from kepton.potential.deepmd_kit.writing import tree_of
from kepton.potential.ensemble import Ensemble, predict

ENERGY = 1e-11
"""eV: energies of some 10 eV, rounded to 2e-16, through some thousand operations"""


# ---------------------------------------------------------------- what DeePMD-kit 3.2 answers


@pytest.fixture(params=["one_side", "two_side"])
def reference(request, shared_data):
    """A model, and frames of some cases with what DeePMD-kit says of them."""
    folder = shared_data / "deepmd_models" / request.param
    held = np.load(folder / "reference.npz")
    cases = {}
    for case in sorted({name.split(".")[0] for name in held}):
        positions = held[f"{case}.coords"]
        positions = positions.reshape(len(positions), -1, 3)
        b, n = positions.shape[:2]
        periodic = f"{case}.cells" in held
        cell = held[f"{case}.cells"].reshape(b, 3, 3) if periodic else np.zeros((b, 3, 3))
        species = np.broadcast_to(np.array([8, 1])[held[f"{case}.types"]], (b, n)).copy()
        zero = np.zeros(b, int)
        frames = Frames.of(positions, species, cell, np.full((b, 3), periodic), zero, zero)
        answers = {key: held[f"{case}.{key}"] for key in ("energy", "forces", "virial")}
        cases[case] = frames, answers
    return folder / "model.dp", cases


def test_exact_is_what_deepmd_kit_answers(reference):
    path, cases = reference
    potential = kepton.load(path, exact=True)
    for frames, expected in cases.values():
        found, _ = predict(potential, frames)
        np.testing.assert_allclose(found.energy, expected["energy"].ravel(), rtol=1e-9, atol=0)
        forces = expected["forces"].reshape(found.forces.shape)
        np.testing.assert_allclose(found.forces, forces, rtol=0, atol=1e-8)
        virial = expected["virial"].reshape(-1, 3, 3)
        np.testing.assert_allclose(found.virial, virial, rtol=0, atol=1e-6)


def test_the_radial_basis_is_within_a_tenth_of_a_meV_per_angstrom(reference):
    path, cases = reference
    potential = kepton.load(path)
    assert potential.members.dtype == jnp.float32
    for frames, expected in cases.values():
        off = predict(potential, frames)[0].forces - expected["forces"].reshape(len(frames), -1, 3)
        assert np.sqrt(np.mean(off**2)) < 1e-4


# ---------------------------------------------------------------- every key that changes energies


def both(tree, tmp_path, suffix=".dp"):
    """Energy of the cluster as Kepton reads the tree, and as NumPy does."""
    path = tmp_path / f"model{suffix}"
    write_tree(path, tree)
    model = read(path).members
    exact = replace(model, exact=True, config=replace(model.config, basis=0))
    found = predict(Ensemble(exact), Frames.from_ase([cluster()]))[0]
    return float(found.energy[0]), energy_of(tree, cluster())


def changed(change, **model):
    """A tree with a change made in its model, and its types in another order than ours."""
    tree = reordered(tree_of(random_potential(**model)))
    change(tree["model"])
    return tree


def reordered(tree, order=(2, 0, 1)):
    """The same model with its types in another order, O H C."""
    order, model = list(order), tree["model"]
    descriptor, fitting = model["descriptor"], model["fitting"]
    model["type_map"] = [model["type_map"][t] for t in order]
    sel = descriptor["sel"]
    descriptor["sel"] = [sel[t] for t in order]
    for name in ("davg", "dstd"):
        descriptor["@variables"][name] = descriptor["@variables"][name][order]
    nets = descriptor["embeddings"]["networks"]
    pairs = order if len(nets) == len(order) else [a + b * len(order) for b in order for a in order]
    descriptor["embeddings"]["networks"] = [nets[k] for k in pairs]
    fitting["nets"]["networks"] = [fitting["nets"]["networks"][t] for t in order]
    fitting["@variables"]["bias_atom_e"] = fitting["@variables"]["bias_atom_e"][order]
    for pairs in (descriptor["exclude_types"], model["pair_exclude_types"]):
        pairs[:] = [[order.index(a), order.index(b)] for a, b in pairs]
    return tree


def layers_of(model):
    nets = model["descriptor"]["embeddings"]["networks"] + model["fitting"]["nets"]["networks"]
    return [layer for one in nets for layer in one["layers"]]


def nothing(_):
    pass


def out_bias(model):
    model["@variables"]["out_bias"] = np.array([[[-2.0], [0.5], [3.0]]])
    model["@variables"]["out_std"] = np.array([[[2.0], [0.5], [3.0]]])  # means nothing


def no_biases(model):
    for layer in layers_of(model):
        layer["@variables"]["b"] = None


def atom_ener(model):
    model["fitting"]["atom_ener"] = [-3.0, None, -1.0]


def atom_exclude(model):
    model["atom_exclude_types"] = [1]


def constant_inputs(model):
    fitting, rng = model["fitting"], np.random.default_rng(0)
    fitting |= {"numb_fparam": 2, "default_fparam": [0.3, -0.2], "dim_case_embd": 1}
    fitting["@variables"] |= {
        "fparam_avg": np.array([0.1, 0.0]),
        "fparam_inv_std": np.array([2.0, 3.0]),
        "case_embd": np.array([0.7]),
    }
    for one in fitting["nets"]["networks"]:
        held = one["layers"][0]["@variables"]
        held["w"] = np.concatenate([held["w"], rng.normal(size=(3, held["w"].shape[1]))])


def excluded(model):
    model["descriptor"]["exclude_types"] = [[0, 1], [2, 2]]


def excluded_from_the_list(model):
    model["pair_exclude_types"] = [[0, 1], [2, 2]]


def excluded_dead_nets(model):
    """As DeePMD-kit writes a two-sided model: the nets of excluded pairs are zero."""
    excluded(model)
    for a, b in ((0, 1), (1, 0), (2, 2)):
        for layer in model["descriptor"]["embeddings"]["networks"][a + 3 * b]["layers"]:
            held = layer["@variables"]
            held |= {name: None if v is None else 0.0 * v for name, v in held.items()}


def all_excluded(model):
    model["descriptor"]["exclude_types"] = [[a, b] for a in range(3) for b in range(a + 1)]


def no_slots(model):
    """A type with sel = 0 is never seen as a neighbour."""
    descriptor = model["descriptor"]
    start, gone = sum(descriptor["sel"][:1]), descriptor["sel"][1]
    descriptor["sel"][1] = 0
    for name in ("davg", "dstd"):
        whole = descriptor["@variables"][name]
        rest = np.concatenate([whole[:, :start], whole[:, start + gone :]], axis=1)
        descriptor["@variables"][name] = rest


def old(model):
    """Keys that older versions do not write."""
    for key in ("default_fparam", "dim_case_embd", "type_map", "exclude_types", "mixed_types"):
        model["fitting"].pop(key)
    model["fitting"]["@version"] = 1
    model["descriptor"].pop("type_map")
    for layer in layers_of(model):
        layer.pop("trainable")
        layer["@version"] = 1


def output_step(model):
    for one in model["fitting"]["nets"]["networks"]:
        one["layers"][-1]["@variables"]["idt"] = np.array([1.5])


MEANINGS = {
    "one-sided": (nothing, {}),
    "two-sided": (nothing, {"config": replace(PLAIN, one_sided=False)}),
    "time steps": (nothing, {"steps": True}),
    "statistics": (nothing, {"environment": True}),
    "statistics, two-sided": (
        nothing,
        {"environment": True, "config": replace(PLAIN, one_sided=False)},
    ),
    "smooth from 0": (nothing, {"config": replace(PLAIN, smooth_A=0.0)}),
    "any widths": (
        nothing,
        {"steps": True, "config": replace(PLAIN, embedding=(1, 2, 3, 3, 5), axis=5)},
    ),
    "no hidden layer": (nothing, {"config": replace(PLAIN, fitting=())}),
    "out_bias": (out_bias, {}),
    "no biases": (no_biases, {}),
    "atom_ener": (atom_ener, {"environment": True}),
    "atom_exclude_types": (atom_exclude, {"environment": True}),
    "parameters of the frame": (constant_inputs, {}),
    "exclude_types": (excluded, {}),
    "all pairs excluded": (all_excluded, {}),
    "exclude_types, dead nets": (
        excluded_dead_nets,
        {"environment": True, "config": replace(PLAIN, one_sided=False)},
    ),
    "pair_exclude_types": (excluded_from_the_list, {}),
    "sel = 0": (no_slots, {"environment": True}),
    "an older version": (old, {}),
    "a step in the output": (output_step, {}),
}


@pytest.mark.parametrize("meaning", MEANINGS)
def test_every_key_means_what_it_means_to_deepmd_kit(meaning, tmp_path):
    change, model = MEANINGS[meaning]
    found, expected = both(changed(change, **model), tmp_path)
    assert found == pytest.approx(expected, abs=ENERGY)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_activation(name, tmp_path):
    config = replace(PLAIN, activation=("linear", "linear"))

    def change(model):
        for layer in layers_of(model):
            if layer["resnet"]:
                layer["activation_function"] = name

    found, expected = both(changed(change, config=config), tmp_path, ".yaml")
    assert found == pytest.approx(expected, abs=ENERGY)


def test_names_of_activations(tmp_path):
    for name, ours in {
        **{"TANH": "tanh", "none": "linear", "gelu": "gelu", "gelu_tf": "gelu"},
        **{"silut": "silut:3.0", "custom_silu:10": "silut:10.0", "SiLU": "silu"},
    }.items():

        def change(model, name=name):
            for layer in layers_of(model):
                layer["activation_function"] = name if layer["resnet"] else "none"

        write_tree(tmp_path / "model.dp", changed(change))
        assert read(tmp_path / "model.dp").members.config.activation == (ours, ours)


def test_empty_slots_add_what_the_equations_say(tmp_path):
    """An atom alone: T = -(m / c_0) sum_b sel_b G_b(-m / c_0) / N in its constant row, else 0."""
    potential = random_potential(environment=True)
    write_tree(tmp_path / "model.dp", tree_of(potential))
    from ase import Atoms

    found = predict(kepton.load(tmp_path / "model.dp", exact=True), Frames.from_ase([Atoms("C")]))
    held = {name: np.asarray(value) for name, value in potential.statistics.items()}
    x = -held["environment_mean"][1] / held["environment_scale"][1, 0]
    t = np.zeros(8)
    for b in range(3):
        first, second = (np.asarray(m)[b] for m in potential.weights["embedding"])
        g = np.tanh(x * first[0] + first[1])
        g = np.tanh(g @ second[:4] + second[4]) + np.concatenate([g, g])
        t += held["selected"][b] * x * g / 24.0
    y = np.outer(t, t[:3]).ravel()
    first, second, last = (np.asarray(m)[1] for m in potential.weights["fitting"])
    y = np.tanh(y @ first[:24] + first[24])
    y = y + np.tanh(y @ second[:10] + second[10])
    expected = y @ last[:10, 0] + last[10, 0] + held["bias"][1]
    assert abs(t).max() > 0.1
    assert float(found[0].energy[0]) == pytest.approx(expected, abs=ENERGY)
    assert (found[0].forces == 0.0).all()


def test_a_start_of_the_basis_is_found(tmp_path):
    """0.9 of the shortest distance that the file tells of; else 0.8 of H-H, or 0.8 Å."""
    for told, start in ((1.5, 1.35), (None, 0.8 * 0.62), (np.nan, 0.8 * 0.62), (1e9, 0.8 * 0.62)):
        tree = tree_of(random_potential())
        tree["@variables"]["min_nbor_dist"] = None if told is None else np.asarray(told)
        write_tree(tmp_path / "model.dp", tree)
        potential = read(tmp_path / "model.dp").members
        assert float(potential.statistics["basis_start"]) == pytest.approx(start)
    tree["min_nbor_dist"] = 2.0  # as `dp compress` writes it
    write_tree(tmp_path / "model.dp", tree)
    start = read(tmp_path / "model.dp").members.statistics["basis_start"]
    assert float(start) == pytest.approx(1.75)  # half of the cutoff


# ---------------------------------------------------------------- refused


def replaced(*keys, by):
    """The change that puts a value under keys and places, one below the other."""

    def change(model):
        for key in keys[:-1]:
            model = model[key]
        model[keys[-1]] = by

    return change


D, F = "descriptor", "fitting"
NET = (D, "embeddings", "networks", 0)
REFUSED = {
    "type": (replaced("type", by="zbl"), "model.type is \"zbl\", where Kepton reads \"standard\""),
    "version": (replaced("@version", by=3), "model.@version is 3"),
    "class": (replaced(D, "@class", by="Other"), "model.descriptor.@class is \"Other\""),
    "branches": (replaced("model_dict", by={"a": {}, "b": {}}), "(a, b)"),
    "descriptor": (replaced(D, "type", by="se_atten_v2"), "se_atten_v2"),
    "descriptor's version": (replaced(D, "@version", by=9), "descriptor.@version is 9"),
    "spin": (replaced(D, "spin", by={"use_spin": [True]}), "descriptor.spin"),
    "compressed": (replaced(D, "compress", by={"@variables": {}}), "before `dp compress`"),
    "protection": (replaced(D, "env_protection", by=0.05), "env_protection is 0.05"),
    "environment": (replaced(D, "env_mat", "rcut", by=9.0), "env_mat.rcut is 9.0"),
    "exponential switch": (replaced(D, "env_mat", "use_exp_switch", by=True), "use_exp_switch"),
    "unknown key": (replaced(D, "colour", by="red"), "descriptor.colour is \"red\""),
    "no cutoff": (replaced(D, "rcut", by=None), "rcut is null, where a finite number"),
    "text for a number": (replaced(D, "rcut", by="6"), "rcut is \"6\""),
    "smooth": (replaced(D, "rcut_smth", by=7.0), "below rcut"),
    "sel": (replaced(D, "sel", by=[4, 4]), "sel is [4, 4]"),
    "negative sel": (replaced(D, "sel", by=[4, 4, -1]), "sel is"),
    "axis": (replaced(D, "axis_neuron", by=9), "from 1 to 8"),
    "sides": (replaced(D, "type_one_side", by=False), "ndim is 1"),
    "pair": (replaced(D, "exclude_types", by=[[0, 3]]), "pairs of types from 0 to 2"),
    "half a pair": (replaced(D, "exclude_types", by=[[0]]), "pairs of types from 0 to 2"),
    "no element": (replaced("type_map", by=["O", "H", "CH3"]), "CH3 is no element"),
    "twice": (replaced("type_map", by=["O", "O", "H"]), "stand twice"),
    "other types": (replaced("type_map", by=["O", "H"]), "sel is"),
    "fitting": (replaced(F, "type", by="dipole"), "fitting.type is \"dipole\""),
    "one net for all": (replaced(F, "mixed_types", by=True), "mixed_types is true"),
    "frame": (replaced(F, "numb_fparam", by=1), "train with default_fparam"),
    "atomic parameters": (replaced(F, "numb_aparam", by=1), "numb_aparam is 1"),
    "energies": (replaced(F, "atom_ener", by=[1.0]), "atom_ener is [1.0]"),
    "silent": (replaced("atom_exclude_types", by=[3]), "types from 0 to 2"),
    "no net": (replaced(D, "embeddings", "networks", 0, by=None), "networks[0] is null"),
    "too few nets": (replaced(D, "embeddings", "networks", by=[]), "3 nets are expected"),
    "activation": (replaced(*NET, "layers", 0, "activation_function", by="mish"), "mish"),
    "activations": (replaced(*NET, "layers", 0, "activation_function", by="relu"), "relu, tanh"),
    "no residual": (replaced(*NET, "layers", 1, "resnet", by=False), "from 4 to 8 channels has a"),
    "shape": (
        replaced(*NET, "layers", 0, "@variables", "w", by=np.ones((2, 4))),
        "of shape (2, 4), where (1, ...)",
    ),
    "bias": (
        replaced(*NET, "layers", 0, "@variables", "b", by=np.ones(3)),
        "@variables.b is of shape (3,), where finite numbers of shape (4,)",
    ),
    "nan": (
        replaced(*NET, "layers", 0, "@variables", "w", by=np.full((1, 4), np.nan)),
        "not an array of finite numbers",
    ),
    "no weights": (replaced(*NET, "layers", 0, "@variables", "w", by=None), "w is missing"),
    "low rank": (
        replaced(*NET, "layers", 0, "@variables", "lora", by=np.ones(3)),
        "lora",
    ),
    "no energies": (replaced(F, "@variables", "bias_atom_e", by=None), "bias_atom_e is missing"),
    "statistics": (replaced(D, "@variables", "davg", by=np.zeros((3, 5, 4))), "davg is of shape"),
    "no deviation": (
        replaced(D, "@variables", "dstd", by=np.zeros((3, 24, 4))),
        "not above 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_what_kepton_cannot_represent_is_refused_in_a_sentence(reason, suffix, tmp_path):
    change, words = REFUSED[reason]
    path = tmp_path / f"model{suffix}"
    write_tree(path, changed(change))
    with pytest.raises(InputError) as told:
        read(path)
    assert words in str(told.value)
    assert str(told.value).startswith(f"{path}: ")
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500


def slots(name, *where, by):
    def change(model):
        model["descriptor"]["@variables"][name][where] = by

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (slots("davg", 0, 3, 0, by=0.2), "differ between the slots"),
        (slots("davg", slice(None), slice(None), 1, by=0.01), "the mean of these is not 0"),
        (slots("dstd", slice(None), slice(None), 2, by=0.01), "between x, y and z"),
        (excluded, "set_davg_zero = true"),
        (excluded_from_the_list, "set_davg_zero = true"),
    ],
)
def test_statistics_that_break_a_symmetry_are_refused(change, words, tmp_path):
    write_tree(tmp_path / "model.dp", changed(change, environment=True))
    with pytest.raises(InputError, match=words):
        read(tmp_path / "model.dp")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    whole = tmp_path / "model.dp"
    write_tree(whole, tree_of(random_potential()))
    data = whole.read_bytes()
    bad = {f"cut{size}.dp": data[:size] for size in (0, 8, 100, 2000, len(data) // 2)}
    bad |= {"text.dp": b"a model, perhaps?", "list.yaml": b"- 1\n- 2\n", "none.yaml": b""}
    bad |= {"cut.yaml": b"model: {a: [1, 2", "tag.yaml": b"model: !!python/object:os.system {}\n"}
    bad |= {"binary.yaml": bytes(range(256)), "self.yaml": b"model: &a {b: *a}\n"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    with h5py.File(tmp_path / "other.dp", "w") as file:
        file["x"] = np.zeros(3)
    with h5py.File(tmp_path / "json.dp", "w") as file:
        file.attrs["json"] = '{"model": '
    with h5py.File(tmp_path / "number.dp", "w") as file:
        file.attrs["json"] = 5
    for name in ("missing", "text"):
        (tmp_path / f"{name}.dp").write_bytes(data)
        with h5py.File(tmp_path / f"{name}.dp", "r+") as file:
            del file["variable_0003"]
            if name == "text":
                file["variable_0003"] = "weights"
    names = [*bad, "other.dp", "json.dp", "number.dp", "missing.dp", "text.dp", "nowhere.dp"]
    for name in names:
        with pytest.raises(InputError) as told:
            kepton.load(tmp_path / name)
        assert name in str(told.value)
        assert "\n" not in str(told.value)


def test_any_value_anywhere_is_read_or_refused(tmp_path):
    """Every key of the tree with a strange value: InputError, never another exception."""
    plain = yaml.safe_load(_yaml_of(tree_of(random_potential()), tmp_path))
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    rng, refused = np.random.default_rng(0), 0
    strange = [None, -1, 1e400, "x", [], {}, [[1, "a"]], True, [None], {"value": [[1], [1, 2]]}]
    for path in _paths(plain["model"]):
        model = json.loads(json.dumps(plain))
        inner = model["model"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = strange[rng.integers(len(strange))]
        (tmp_path / "strange.yaml").write_text(yaml.dump(model, Dumper=dumper))
        try:
            read(tmp_path / "strange.yaml")
        except InputError:
            refused += 1
    assert refused > 50


def _yaml_of(tree, folder):
    write_tree(folder / "plain.yaml", tree)
    return (folder / "plain.yaml").read_text()


def _paths(tree, above=()):
    """Paths to every key, and to the first entry of every list."""
    keys = tree if isinstance(tree, dict) else range(min(1, len(tree)))
    for key in keys:
        yield (*above, key)
        if isinstance(tree[key], dict) or (isinstance(tree[key], list) and key != "value"):
            yield from _paths(tree[key], (*above, key))


def test_frozen_models_are_named(tmp_path):
    (tmp_path / "frozen_model.pb").write_bytes(b"graph")
    with pytest.raises(InputError, match=r"dp convert-backend frozen_model.pb frozen_model.dp"):
        kepton.load(tmp_path / "frozen_model.pb")


def test_nets_without_a_basis_are_loaded_exactly_or_not(tmp_path):
    config = replace(PLAIN, activation=("relu", "tanh"))
    write_tree(tmp_path / "model.dp", tree_of(random_potential(config=config)))
    with pytest.raises(InputError, match=r"relu\) are not smooth enough.*exact = True"):
        kepton.load(tmp_path / "model.dp")
    assert kepton.load(tmp_path / "model.dp", exact=True).members.dtype == jnp.float64


def test_species_are_in_our_order(tmp_path):
    write_tree(tmp_path / "model.dp", changed(nothing))
    ensemble = read(tmp_path / "model.dp")
    assert ensemble.species == SPECIES
    assert ensemble.size == 1
    for a, b in zip(
        jax.tree.leaves(ensemble.member(0).weights), jax.tree.leaves(random_potential().weights)
    ):
        np.testing.assert_array_equal(a, b)
