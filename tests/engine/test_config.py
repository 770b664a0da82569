"""Configs: what is wrong with one is said before anything starts, by the name of its key."""

import json
import re

import pytest
import torch
import yaml
from safetensors.torch import save_file

from tiller.engine.build_inventory import make_plan
from tiller.engine.config import Config, load_config, shipped_configs
from tiller.engine.engine_args import inline_config
from tiller.engine.errors import ConfigError, SAEFormatError, SpecError, TillerError, UnsupportedError
from tiller.engine.inventory import plan_of
from tiller.engine.sae.vector import load_vector

from . import sae_writers as write

D_MODEL, D_SAE, NUM_LAYERS = 16, 64, 4


@pytest.fixture
def folder(tmp_path):
    """A config's folder: a model of 4 layers and width 16, an SAE and a vector that fit it."""
    shape = {"hidden_size": D_MODEL, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2, "intermediate_size": 32}
    write.write_json(
        tmp_path / "model/config.json", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **shape}
    )
    write.write_sparsify(tmp_path / "sae", D_MODEL, D_SAE)
    save_file({"v": torch.ones(D_MODEL)}, tmp_path / "french.safetensors", metadata={"layer": "2"})
    return tmp_path


def body(**changes):
    saes = {"default": {"path": "sae", "layer": 1}}
    return {"model": "model", "saes": saes, "vectors": {"french": "french.safetensors"}, **changes}


def load(folder, content):
    (folder / "config.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_config(folder / "config.yaml")


WARM = {"features": [{"id": 5, "value": 4.0}]}
BAD_FILES = {
    "unknown key": (body(layers=3), "layers: unknown key; allowed: model, saes, vectors, profiles, engine"),
    "unknown SAE key": (
        body(saes={"default": {"path": "sae", "hook": 3}}),
        "saes.default.hook: unknown key; allowed: path, subfolder, layer, site, trained_on, activation, labels",
    ),
    "unknown vector key": (
        body(vectors={"v": {"path": "p", "scale": 3}}),
        "vectors.v.scale: unknown key; allowed: path, layer",
    ),
    "misspelt key": (
        {"modell": "model"},
        "modell: unknown key; allowed: model, saes, vectors, profiles, engine, evaluation; did you mean 'model'?",
    ),
    "misspelt SAE key": (
        body(saes={"default": {"paht": "sae"}}),
        "saes.default.paht: unknown key; allowed: path, subfolder, layer, site, trained_on, activation, labels; "
        "did you mean 'path'?",
    ),
    "no model": ({"saes": {}}, "model: Field required"),
    "model a number": (body(model=7), "model: "),
    "SAE without path": (body(saes={"default": {"layer": 3}}), "saes.default.path: Field required"),
    "SAE a path": (body(saes={"default": "sae"}), "saes.default: "),
    "layer a word": (body(saes={"default": {"path": "sae", "layer": "last"}}), "saes.default.layer: "),
    "activation unknown": (body(saes={"default": {"path": "sae", "activation": "gelu"}}), "saes.default.activation"),
    "SAE name": (body(saes={"my sae": {"path": "sae"}}), "saes.my sae"),
    "profile a list": (body(profiles={"warm": [1]}), "profiles.warm: "),
    "base is ours": (body(base="/"), "base"),
    "key a number": (body() | {3: 4}, "keywords must be strings"),
    "a list": ("- model", "must hold a mapping with at least `model`"),
    "empty": ("", "must hold a mapping"),
    "no YAML": ("model: [", "is not YAML"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_name_the_key(tmp_path, content, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load(tmp_path, content)
    assert "config.yaml" in str(caught.value)


def test_binary_file_is_no_config(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"model: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(tmp_path / "config.yaml")


def test_missing_config_lists_the_shipped_ones(tmp_path):
    with pytest.raises(
        ConfigError, match="no config 'nowhere'; give a YAML file or one of: " + ", ".join(shipped_configs())
    ):
        load_config("nowhere")
    with pytest.raises(ConfigError, match="no config"):
        load_config(tmp_path)


def test_profiles_are_checked_at_load(folder):
    config = load(folder, body(profiles={"warm": WARM}))
    assert config.profile("warm").features[0].id == 5
    with pytest.raises(ConfigError, match="unknown profile 'cold'; this config has: warm"):
        config.profile("cold")
    with pytest.raises(SpecError) as caught:
        load(folder, body(profiles={"warm": WARM, "bad": {"features": [{"id": -5, "value": 4}]}}))
    assert caught.value.field == "profiles.bad.features[0].id"


def test_french_accents_survive_any_locale(folder, monkeypatch):
    (folder / "modèle").mkdir()
    (folder / "config.yaml").write_bytes("model: modèle\n".encode())
    monkeypatch.setenv("LC_ALL", "C")
    config = load_config(folder / "config.yaml")
    assert config.resolve(config.model) == str(folder / "modèle")


def test_paths_start_at_the_configs_own_folder(folder, monkeypatch):
    config = load(folder, body())
    monkeypatch.chdir("/")
    assert config.resolve("sae") == str(folder / "sae")
    assert config.resolve("andyrdt/saes-qwen2.5-7b-instruct") == "andyrdt/saes-qwen2.5-7b-instruct"
    assert Config(model="m").resolve("sae") == "sae"


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_load(name):
    assert load_config(name).model


def test_plan_of_a_config(folder):
    plan = make_plan(load(folder, body(profiles={"warm": WARM})))
    assert plan.layers == [1, 2]
    found = plan.saes["default"]
    assert (found.path, found.layer, found.d_sae, found.d_model) == (str(folder / "sae"), 1, D_SAE, D_MODEL)
    assert plan.vectors["french"].layer == 2
    assert plan_of({"tiller": json.loads(plan.model_dump_json())}) == plan


@pytest.mark.parametrize("activation", ["auto", "topk", {"topk": 3}, {"threshold": 0.5}])
def test_activation_reaches_the_plan(folder, activation):
    plan = make_plan(load(folder, body(saes={"default": {"path": "sae", "layer": 1, "activation": activation}})))
    assert plan.saes["default"].activation == activation


def test_vector_takes_the_only_layer_there_is(folder):
    save_file({"v": torch.ones(D_MODEL)}, folder / "lost.safetensors")
    assert make_plan(load(folder, body(vectors={"v": "lost.safetensors"}))).vectors["v"].layer == 1
    explicit = {"v": {"path": "french.safetensors", "layer": 3}}
    assert make_plan(load(folder, body(vectors=explicit))).vectors["v"].layer == 3


def vector_file(folder, **tensors):
    save_file(tensors, folder / "bad.safetensors", metadata=None)
    return {"vectors": {"bad": "bad.safetensors"}}


BAD_PLANS = {
    # what is wrong, the error, its field, part of its message
    "SAE of another width": (
        lambda f: write.write_sparsify(f / "wide", 32, D_SAE) and {"saes": {"default": {"path": "wide", "layer": 1}}},
        SAEFormatError,
        "saes.default",
        "is for a residual stream of width 32, the model's is 16",
    ),
    "SAE past the last layer": (
        lambda f: {"saes": {"default": {"path": "sae", "layer": 4}}},
        SAEFormatError,
        "saes.default",
        "layer is 4, the model has layers 0 to 3",
    ),
    "SAE without a layer": (lambda f: {"saes": {"s": {"path": "sae"}}}, ConfigError, "saes.s", "give `layer`"),
    "SAE missing": (lambda f: {"saes": {"s": {"path": str(f / "no"), "layer": 1}}}, SAEFormatError, "saes.s", "no"),
    "SAE of another activation": (
        lambda f: {"saes": {"s": {"path": "sae", "layer": 1, "activation": "threshold"}}},
        SAEFormatError,
        "saes.s",
        "stores no threshold",
    ),
    "vector missing": (
        lambda f: {"vectors": {"v": "no.safetensors"}},
        ConfigError,
        "vectors.v",
        "no.safetensors can't be read",
    ),
    "vector a folder": (lambda f: {"vectors": {"v": "sae"}}, ConfigError, "vectors.v", "can't be read"),
    "vector of another width": (
        lambda f: vector_file(f, v=torch.ones(8)),
        ConfigError,
        "vectors.bad",
        "has 8 entries, the model's residual stream has 16",
    ),
    "vector past the last layer": (
        lambda f: {"vectors": {"v": {"path": "french.safetensors", "layer": 9}}},
        ConfigError,
        "vectors.v",
        "layer is 9, the model has layers 0 to 3",
    ),
    "vector without a layer": (
        lambda f: vector_file(f, v=torch.ones(16)) | {"saes": {}},
        ConfigError,
        "vectors.bad",
        "give `layer`",
    ),
    "vector of zeros": (
        lambda f: vector_file(f, v=torch.zeros(16)),
        ConfigError,
        "vectors.bad",
        "has norm 0; between 1e-12 and 1e+12",
    ),
    "vector with NaN": (
        lambda f: vector_file(f, v=torch.full((16,), torch.nan)),
        ConfigError,
        "vectors.bad",
        "has norm nan",
    ),
    "vector too long to square": (
        lambda f: vector_file(f, v=torch.full((16,), 1e30)),
        ConfigError,
        "vectors.bad",
        "has norm",
    ),
    "vector too short to square": (
        lambda f: vector_file(f, v=torch.full((16,), 1e-30)),
        ConfigError,
        "vectors.bad",
        "has norm",
    ),
    "vector a matrix": (lambda f: vector_file(f, v=torch.ones(2, 16)), ConfigError, "vectors.bad", "[d_model]"),
    "two vectors": (
        lambda f: vector_file(f, a=torch.ones(16), b=torch.ones(16)),
        ConfigError,
        "vectors.bad",
        "['a', 'b']",
    ),
    "model missing": (lambda f: {"model": str(f / "nowhere")}, ConfigError, "model", "can't be read"),
    "profile out of range": (
        lambda f: {"profiles": {"far": {"features": [{"id": D_SAE, "value": 1}]}}},
        SpecError,
        "profiles.far.features[0].id",
        "0 to 63",
    ),
    "profile of an unknown SAE": (
        lambda f: {"profiles": {"far": {"features": [{"id": 1, "value": 1, "sae": "x"}]}}},
        SpecError,
        "profiles.far.features[0].sae",
        "this engine has: default",
    ),
    "profile of an unknown vector": (
        lambda f: {"profiles": {"far": {"vectors": [{"name": "x", "alpha": 1}]}}},
        SpecError,
        "profiles.far.vectors[0].name",
        "this engine has: french",
    ),
}


@pytest.mark.parametrize(("change", "error", "field", "message"), BAD_PLANS.values(), ids=BAD_PLANS.keys())
def test_what_does_not_fit_is_named_by_its_key(folder, change, error, field, message):
    config = load(folder, body(**change(folder)) if callable(change) else body())
    with pytest.raises(error) as caught:
        make_plan(config)
    assert caught.value.field == field and message in caught.value.message
    assert isinstance(caught.value, TillerError) and "\n" not in str(caught.value)


def test_layer_in_a_vector_file_must_be_a_number(folder):
    save_file({"v": torch.ones(D_MODEL)}, folder / "v.safetensors", metadata={"layer": "last"})
    with pytest.raises(ConfigError, match="layer 'last'"):
        load_vector(folder / "v.safetensors")


def test_unsteerable_architecture_is_named(folder):
    write.write_json(folder / "model/config.json", {"model_type": "bert", "architectures": ["BertModel"]})
    with pytest.raises(UnsupportedError, match="BertModel"):
        make_plan(load(folder, body()))


def test_profiles_bring_sampling_of_their_own(folder):
    defaults = {"temperature": 0.5, "seed": 7, "max_tokens": 9}
    config = load(folder, body(profiles={"warm": {**WARM, "defaults": defaults}, "cool": WARM}))
    assert config.profile("warm") == config.profile("cool")
    assert config.profile_body("warm") == WARM
    assert config.profile_defaults("warm").model_dump() == defaults
    assert config.profile_defaults("cool").model_dump(exclude_none=True) == {}


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"top_p": 0.5}, "top_p: unknown key; allowed: temperature, seed, max_tokens"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"temperature": -1}, "temperature: Input should be greater than or equal to 0"),
        ([], "mapping"),
    ],
)
def test_wrong_defaults_of_a_profile(folder, defaults, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load(folder, body(profiles={"warm": {**WARM, "defaults": defaults}}))
    assert caught.value.field == "profiles.warm.defaults"


def test_plan_out_of_additional_config(folder):
    """A plain `vllm serve` names a config, or gives its parts; both become the plan that a config makes."""
    config = load(folder, body(profiles={"warm": WARM}))
    model, file = str(folder / "model"), str(folder / "config.yaml")
    assert make_plan(inline_config({"config": file}, model)) == make_plan(config)
    parts = {"saes": {"default": {"path": str(folder / "sae"), "layer": 1}}, "profiles": {"warm": WARM}}
    assert make_plan(inline_config(parts, model)).saes == make_plan(config).saes
    for wrong, message in [
        ("demo", "must be an object"),
        ({"sae": {}}, "unknown key 'sae'; allowed: config, or saes, vectors, profiles"),
        ({"config": file, "saes": {}}, "unknown key 'config'"),
        ({"profiles": {"warm": {"feature": []}}}, "profiles.warm.feature"),
    ]:
        with pytest.raises(TillerError, match=re.escape(message)):
            inline_config(wrong, model)


def test_vectors_are_versioned_by_content(folder):
    file = folder / "french.safetensors"
    entries = [make_plan(load(folder, body())).vectors["french"]]
    save_file({"other name": torch.ones(D_MODEL, dtype=torch.float16)}, file, metadata={"layer": "2"})
    entries.append(make_plan(load(folder, body())).vectors["french"])
    assert entries[0] == entries[1] and entries[0].norm == D_MODEL**0.5
    save_file({"v": torch.ones(D_MODEL) * 2}, file, metadata={"layer": "2"})
    entries.append(make_plan(load(folder, body())).vectors["french"])
    save_file({"v": torch.ones(D_MODEL)}, file, metadata={"layer": "1"})
    entries.append(make_plan(load(folder, body())).vectors["french"])
    assert len({entry.version for entry in entries}) == 3


def labelled(labels):
    return body(saes={"default": {"path": "sae", "layer": 1, "labels": labels}})


def test_labels_stand_in_the_config_or_in_a_file(folder):
    assert load(folder, labelled({5: "cats", "6": "dogs"})).labels("default") == {5: "cats", 6: "dogs"}
    (folder / "labels.json").write_text('{"5": "cats"}')
    assert load(folder, labelled("labels.json")).labels("default") == {5: "cats"}
    assert load(folder, body()).labels("default") == {}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({D_SAE: "cats"}, f"saes.default: there is a label of feature {D_SAE}; this SAE has 0 to {D_SAE - 1}"),
        ({-1: "cats"}, "saes.default.labels"),
        ({"cats": "5"}, "saes.default.labels"),
        ({5: ["cats"]}, "saes.default.labels"),
        ("none.json", "saes.default: none.json"),
        ("config.yaml", "saes.default: config.yaml"),
    ],
)
def test_wrong_labels_are_refused(folder, labels, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_plan(load(folder, labelled(labels)))
