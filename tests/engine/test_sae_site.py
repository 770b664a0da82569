"""A dictionary of another tensor, layer or model than the config applies it to is refused; what can't be told is a doubt."""

import re

import pytest
import yaml

from tiller.engine.build_inventory import make_plan
from tiller.engine.config import load_config
from tiller.engine.errors import SAEFormatError
from tiller.engine.sae.formats.hooks import place_in, place_of
from tiller.engine.sae.model_names import compare

from . import sae_writers as write

D_MODEL, D_SAE, NUM_LAYERS = 16, 64, 8
GEMMA = {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}
GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": D_MODEL,
    "n_layer": NUM_LAYERS,
    "n_head": 2,
}
QWEN = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
SHAPE = {"hidden_size": D_MODEL, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2, "intermediate_size": 32}


def plan(folder, sae, kind=QWEN, model="model", write_sae=None, **keys):
    """The plan of a config whose SAE is at `sae`, written by `write_sae(folder)`."""
    write.write_json(folder / model / "config.json", kind | (SHAPE if kind is not GPT2 else {}))
    if write_sae is not None:
        write_sae(folder / sae)
    body = {"model": model, "saes": {"default": {"path": sae, **keys}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(body))
    return make_plan(load_config(folder / "config.yaml"))


def gemma2(path):
    write.write_gemma2(path, D_MODEL, D_SAE)


def bare_gemma3(path):
    write.write_gemma3(path, D_MODEL, D_SAE)
    (path / "config.json").unlink()


def gemma3(**config):
    return lambda path: write.write_gemma3(path, D_MODEL, D_SAE, **{"model_name": None, **config})


def saelens(**metadata):
    return lambda path: write.write_saelens(path, "standard", D_MODEL, D_SAE, metadata=metadata)


def learned(layer=2, io=None, **trainer):
    def made(path):
        write.write_dictionary_learning(path, "AutoEncoderTopK", D_MODEL, D_SAE)
        body = write.dictionary_learning_config("AutoEncoderTopK", D_MODEL, D_SAE)
        body["trainer"] |= {"layer": layer, "lm_name": "tiny", "submodule_name": None, **trainer}
        body["buffer"] |= {} if io is None else {"io": io}
        write.write_json(path / "config.json", body)

    return made


OTHER_SITES = {
    "Gemma Scope mlp": ("google/gemma-scope-2b-pt-mlp/layer_2/width_16k/average_l0_82", GEMMA, gemma2, "mlp_out"),
    "Gemma Scope att": ("google/gemma-scope-2b-pt-att/layer_2/width_16k/average_l0_82", GEMMA, gemma2, "attn_z"),
    "Gemma Scope transcoders": (
        "gemma-scope-2b-pt-transcoders/layer_2/width_16k/average_l0_8",
        GEMMA,
        gemma2,
        "transcoder",
    ),
    "hub cache": (
        "models--google--gemma-scope-2b-pt-mlp/snapshots/0a/layer_2/width_16k/l0_8",
        GEMMA,
        gemma2,
        "mlp_out",
    ),
    "Gemma Scope 2 mlp_out": ("scope/mlp_out/layer_2_width_16k_l0_small", GEMMA, bare_gemma3, "mlp_out"),
    "Gemma Scope 2 attn_out": ("scope/attn_out_all/layer_2_width_16k_l0_small", GEMMA, bare_gemma3, "attn_out"),
    "Gemma Scope 2 transcoder": ("scope/transcoder/layer_2_width_16k_l0_small", GEMMA, bare_gemma3, "transcoder"),
    "Gemma Scope 2 hook": (
        "sae",
        GEMMA,
        gemma3(**dict.fromkeys(("hf_hook_point_in", "hf_hook_point_out"), "model.layers.2.self_attn.o_proj.input")),
        "attn_z",
    ),
    "Gemma Scope 2 two hooks": (
        "sae",
        GEMMA,
        gemma3(hf_hook_point_in="model.layers.2.pre_feedforward_layernorm.output"),
        "a transcoder from",
    ),
    "SAELens mlp_out": ("sae", QWEN, saelens(hook_name="blocks.2.hook_mlp_out"), "mlp_out"),
    "SAELens resid_mid": ("sae", QWEN, saelens(hook_name="blocks.2.hook_resid_mid"), "resid_mid"),
    "SAELens ln2": ("sae", QWEN, saelens(hook_name="blocks.2.ln2.hook_normalized"), "mlp_in"),
    "SAELens transcoder": (
        "sae",
        QWEN,
        saelens(hook_name="blocks.2.hook_resid_mid", hook_name_out="blocks.2.hook_mlp_out"),
        "transcoder",
    ),
    "SAELens embedding": ("sae", QWEN, saelens(hook_name="blocks.0.hook_resid_pre"), "embedding"),
    "SAELens unknown hook": ("sae", QWEN, saelens(hook_name="blocks.2.hook_q_input"), "no known site"),
    "dictionary_learning mlp": ("sae", QWEN, learned(submodule_name="mlp_out_layer_2"), "mlp_out"),
    "dictionary_learning attn": ("sae", QWEN, learned(submodule_name="attn_out_layer_2"), "attn_out"),
    "dictionary_learning folder": ("mlp_out_layer_2/trainer_0", QWEN, learned(), "mlp_out"),
    "dictionary_learning transcoder": ("sae", QWEN, learned(io="in_and_out"), "in_and_out"),
    "sparsify mlp": ("layers.2.mlp", QWEN, lambda path: write.write_sparsify(path, D_MODEL, D_SAE), "mlp_out"),
    "path against file": ("mlp_out/sae", QWEN, saelens(hook_name="blocks.2.hook_resid_post"), "path names mlp_out"),
}


@pytest.mark.parametrize(("path", "kind", "written", "found"), OTHER_SITES.values(), ids=OTHER_SITES.keys())
def test_a_dictionary_of_another_site_is_refused(tmp_path, path, kind, written, found):
    with pytest.raises(SAEFormatError, match=re.escape(found)) as caught:
        plan(tmp_path, path, kind, write_sae=written, layer=2)
    assert caught.value.field == "saes.default"
    assert "resid_post" in caught.value.message and str(tmp_path) in caught.value.message


RESIDUALS = {
    "Gemma Scope": ("google/gemma-scope-2b-pt-res/layer_5/width_16k/average_l0_82", GEMMA, gemma2, 5, "path"),
    "Gemma Scope 2": ("sae", GEMMA, gemma3(**dict.fromkeys(("hf_hook_point_in", "hf_hook_point_out"), "model.layers.5.output")), 5, "file"),  # noqa: E501
    "SAELens": ("sae", QWEN, saelens(hook_name="blocks.5.hook_resid_post"), 5, "file"),
    "SAELens resid_pre": ("sae", QWEN, saelens(hook_name="blocks.6.hook_resid_pre"), 5, "file"),
    "dictionary_learning": ("sae", QWEN, learned(layer=5, submodule_name="resid_post_layer_5"), 5, "file"),
    "dictionary_learning resid_pre": ("sae", QWEN, learned(layer=6, submodule_name="resid_pre_layer_6"), 5, "file"),
    "dictionary_learning folder": ("resid_post_layer_5/trainer_0", QWEN, learned(layer=5), 5, "path"),
    "innermost folder": ("mlp_out/resid_post_layer_5/trainer_0", QWEN, learned(layer=5), 5, "path"),
    "sparsify": ("layers.5", QWEN, lambda path: write.write_sparsify(path, D_MODEL, D_SAE), 5, "file"),
    "Qwen-Scope": ("sae", QWEN, lambda path: write.write_qwen_scope(path, D_MODEL, D_SAE, layers=(5,)), 5, "file"),
    "Llama Scope": ("sae", QWEN, lambda path: write.write_llama_scope(path, D_MODEL, D_SAE, hook_point_in="blocks.5.hook_resid_post", hook_point_out="blocks.5.hook_resid_post"), 5, "file"),  # noqa: E501
    "no word of it": ("sae", QWEN, learned(layer=5), 5, "default"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "kind", "written", "layer", "source"), RESIDUALS.values(), ids=RESIDUALS.keys())
def test_a_dictionary_of_the_residual_stream_goes_where_it_says(tmp_path, path, kind, written, layer, source):
    entry = plan(tmp_path, path, kind, write_sae=written).saes["default"]
    assert (entry.site, entry.layer, entry.source, entry.doubts) == ("resid_post", layer, source, [])
    assert plan(tmp_path, path, kind, layer=layer).saes["default"] == entry


@pytest.mark.parametrize("case", RESIDUALS.keys() - {"Qwen-Scope"})  # there `layer` chooses the file
def test_a_layer_that_contradicts_is_refused(tmp_path, case):
    path, kind, written, layer, _ = RESIDUALS[case]
    with pytest.raises(SAEFormatError, match=f"layer 3 is given.*resid_post of layer {layer}; write `layer: {layer}`"):
        plan(tmp_path, path, kind, write_sae=written, layer=3)


def test_site_names_what_nothing_else_says(tmp_path):
    unknown = saelens(hook_name="blocks.2.hook_q_input")
    entry = plan(tmp_path, "sae", write_sae=unknown, site="resid_post", layer=3).saes["default"]
    assert (entry.layer, entry.source, entry.doubts) == (3, "config", [])
    assert plan(tmp_path, "sae", site="resid_pre", layer=3).saes["default"].layer == 2
    assert (
        plan(tmp_path, "mlp_out_layer_2/a", write_sae=learned(), site="resid_post").saes["default"].source == "config"
    )


def test_site_agrees_with_the_file_or_is_refused(tmp_path):
    pre = saelens(hook_name="blocks.6.hook_resid_pre")
    assert plan(tmp_path, "sae", write_sae=pre, site="resid_pre", layer=6).saes["default"].layer == 5
    assert plan(tmp_path, "sae", site="resid_post", layer=5).saes["default"].layer == 5
    with pytest.raises(SAEFormatError, match="layer 6 is given"):
        plan(tmp_path, "sae", site="resid_post", layer=6)
    with pytest.raises(SAEFormatError, match="which is mlp_out"):
        plan(tmp_path, "other", write_sae=saelens(hook_name="blocks.2.hook_mlp_out"), site="resid_post")
    with pytest.raises(SAEFormatError, match="says site: resid_pre"):
        plan(tmp_path, "post", write_sae=saelens(hook_name="blocks.5.hook_resid_post"), site="resid_pre", layer=6)


def test_a_word_in_the_path_is_a_doubt_and_a_site_settles_it(tmp_path):
    (doubt,) = plan(tmp_path, "my-mlp-run/best", write_sae=learned()).saes["default"].doubts
    assert "`my-mlp-run`" in doubt and "`site: resid_post`" in doubt
    assert plan(tmp_path, "my-mlp-run/best", site="resid_post").saes["default"].doubts == []


def test_doubts_are_printed_once(tmp_path, caplog):
    for _ in range(2):
        plan(tmp_path, "attention/best", write_sae=learned())
    (record,) = [record for record in caplog.records if "`attention`" in record.getMessage()]
    assert record.levelname == "WARNING" and "saes.default" in record.getMessage()


def test_another_model_is_refused_and_an_unclear_one_is_a_doubt(tmp_path):
    def trained(name):
        return learned(lm_name=name)

    with pytest.raises(SAEFormatError, match=r"trained on google/gemma-2-2b.*the model is a qwen2.*trained_on: google"):
        plan(tmp_path, "a", write_sae=trained("google/gemma-2-2b"))
    with pytest.raises(SAEFormatError, match=r"the model is Qwen2.5-1.5B; take an SAE of this model"):
        plan(tmp_path, "b", model="Qwen2.5-1.5B", write_sae=trained("Qwen/Qwen2.5-7B"))
    (doubt,) = (
        plan(tmp_path, "c", model="Qwen2.5-7B", write_sae=trained("Qwen/Qwen2.5-7B-Instruct")).saes["default"].doubts
    )
    assert "Qwen/Qwen2.5-7B-Instruct" in doubt and "`trained_on:" in doubt
    confirmed = plan(tmp_path, "c", model="Qwen2.5-7B", trained_on="Qwen/Qwen2.5-7B-Instruct")
    assert confirmed.saes["default"].doubts == []
    with pytest.raises(SAEFormatError, match="correct one of them"):
        plan(tmp_path, "c", model="Qwen2.5-7B", trained_on="Qwen/Qwen2.5-7B")
    assert plan(tmp_path, "c", model="Qwen2.5-7B-Instruct").saes["default"].doubts == []
    assert plan(tmp_path, "d", model="some-folder", write_sae=trained("tiller-demo")).saes["default"].doubts == []


def test_gemma_scope_names_its_model_in_its_path(tmp_path):
    path = "google/gemma-scope-9b-pt-res/layer_5/width_16k/average_l0_82"
    with pytest.raises(SAEFormatError, match=r"trained on google/gemma-2-9b, and the model is gemma-2-2b"):
        plan(tmp_path, path, GEMMA, model="gemma-2-2b", write_sae=gemma2)
    assert plan(tmp_path, path, GEMMA, model="gemma-2-9b").saes["default"].doubts == []


@pytest.mark.parametrize(
    ("trained_on", "model", "family", "verdict"),
    [
        ("gemma-2-2b", "google/gemma-2-2b", "gemma2", "same"),
        ("gpt2-small", "openai-community/gpt2", "gpt2", "same"),
        ("Llama3_1-8B-Base", "meta-llama/Llama-3.1-8B", "llama", "unclear"),
        ("google/gemma-2-2b", "google/gemma-2-2b-it", "gemma2", "unclear"),
        ("mistral-7b", "mistralai/Mistral-7B-v0.1", "mistral", "unclear"),
        ("google/gemma-2-2b", "me/mine", "gemma2", "unclear"),
        ("google/gemma-2-2b", "me/mine", "qwen2", "other"),
        ("google/gemma-2-2b", "google/gemma-2-9b", "gemma2", "other"),
        ("gpt2-medium", "gpt2-large", "gpt2", "other"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3-8B", "llama", "other"),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2-7B", "qwen2", "other"),
    ],
)
def test_names_of_models(trained_on, model, family, verdict):
    assert compare(trained_on, [model], family) == verdict


def test_places():
    assert place_of("resid_post_mlp_layer_6") == ("resid_post", 6, "resid_post_mlp_layer_6")
    assert place_of("model.layers.4.post_feedforward_layernorm.output").site == "mlp_out"
    assert place_of("layer_20") is None
    assert place_in(["fnlp", "Llama3_1-8B-Base-LXTC-8x", "Llama3_1-8B-Base-L15TC-8x"]).site == "transcoder"
    assert place_in(["fnlp", "Llama3_1-8B-Base-LXR-8x", "Llama3_1-8B-Base-L15R-8x"]).site == "resid_post"
