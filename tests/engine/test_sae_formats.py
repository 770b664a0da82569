"""Every format, written in its true layout, must compute what its own project computes."""

import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tiller.engine.errors import SAEFormatError
from tiller.engine.sae.formats import FORMATS
from tiller.engine.sae.loader import check_fits, describe_sae, load_sae, max_act_path
from tiller.kernels.reference import decode, encode

from . import sae_writers as write

K = write.K
SIZES = [(24, 64), (17, 51)]
DICT_CLASSES = [
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
]


def inputs(d, seed=5):
    # Residual streams are far from unit variance, and not centred.
    return 4.0 * torch.randn(13, d, generator=torch.Generator().manual_seed(seed)) + 0.5


def topk(pre, k=K):
    values, ids = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter(-1, ids, values)


def assert_computes(sae, x, f, x_hat):
    """`sae` encodes x to f and decodes f to x_hat."""
    assert (f > 0).any() and (f == 0).any()
    torch.testing.assert_close(encode(x, sae), f, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decode(f, sae, x), x_hat, atol=1e-5, rtol=1e-5)


def dictionary_learning_convention(name, s, x):
    """f and the reconstruction as `name` of dictionary_learning computes them from its state dict."""

    def E(x):
        return x @ s["encoder.weight"].T + s["encoder.bias"]

    match name:
        case "AutoEncoderTopK":
            f = topk(E(x - s["b_dec"]).relu())
            return f, f @ s["decoder.weight"].T + s["b_dec"]
        case "BatchTopKSAE":
            f = E(x - s["b_dec"]).relu()
            f = f * (f > s["threshold"])
            return f, f @ s["decoder.weight"].T + s["b_dec"]
        case "MatryoshkaBatchTopKSAE":
            f = ((x - s["b_dec"]) @ s["W_enc"] + s["b_enc"]).relu()
            f = f * (f > s["threshold"])
            return f, f @ s["W_dec"] + s["b_dec"]
        case "JumpReluAutoEncoder":
            pre = x @ s["W_enc"] + s["b_enc"]
            f = (pre * (pre > s["threshold"])).relu()
            return f, f @ s["W_dec"] + s["b_dec"]
        case "AutoEncoder":
            f = E(x - s["bias"]).relu()
            return f, f @ s["decoder.weight"].T + s["bias"]
        case "AutoEncoderNew":
            f = E(x).relu()
            return f, f @ s["decoder.weight"].T + s["decoder.bias"]
        case "GatedAutoEncoder":
            z = (x - s["decoder_bias"]) @ s["encoder.weight"].T
            f = (z + s["gate_bias"] > 0) * (s["r_mag"].exp() * z + s["mag_bias"]).relu()
            return f, f @ s["decoder.weight"].T + s["decoder_bias"]


class TestDictionaryLearning:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    @pytest.mark.parametrize("name", DICT_CLASSES)
    def test_computes_what_its_class_computes(self, tmp_path, name, d, F):
        state = write.write_dictionary_learning(tmp_path, name, d, F)
        x = inputs(d)
        assert_computes(load_sae(tmp_path).sae, x, *dictionary_learning_convention(name, state, x))

    def test_reads_layer_and_model(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64)
        loaded = load_sae(tmp_path)
        assert (loaded.layer, loaded.model, loaded.format) == (15, "Qwen/Qwen2.5-7B-Instruct", "dictionary_learning")
        assert any("threshold" in note for note in loaded.notes)

    @pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE", "AutoEncoder"])
    def test_scales_the_biases_of_a_crash_backup(self, tmp_path, name):
        state = write.write_crash_backup(tmp_path, name, 24, 64)
        for key in ("encoder.bias", "b_dec", "bias", "threshold"):
            if key in state:
                state[key] = state[key] * write.NORM_FACTOR
        x = inputs(24)
        loaded = load_sae(tmp_path)
        assert_computes(loaded.sae, x, *dictionary_learning_convention(name, state, x))
        assert any("crash backup" in note and "3.5" in note for note in loaded.notes)

    def test_reads_one_checkpoint_file(self, tmp_path):
        final = write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        (tmp_path / "checkpoints").mkdir()
        early = {**final, "encoder.bias": final["encoder.bias"] + 1.0}
        torch.save(early, tmp_path / "checkpoints" / "ae_100.pt")
        x = inputs(24)
        loaded = load_sae(tmp_path / "checkpoints" / "ae_100.pt")
        assert_computes(loaded.sae, x, *dictionary_learning_convention("AutoEncoderTopK", early, x))
        assert loaded.path.name == "ae_100.pt"
        assert load_sae(tmp_path, subfolder="checkpoints/ae_100.pt").layer == 15

    def test_negative_batch_threshold_is_a_plain_relu_and_noted(self, tmp_path):
        state = write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64, threshold=-1.0)
        x, loaded = inputs(24), load_sae(tmp_path)
        f = ((x - state["b_dec"]) @ state["encoder.weight"].T + state["encoder.bias"]).relu()
        torch.testing.assert_close(encode(x, loaded.sae), f, atol=1e-5, rtol=1e-5)
        assert any("plain ReLU" in note for note in loaded.notes)


def saelens_convention(architecture, s, x, b_dec_in=True, rescale=False):
    z = x - s["b_dec"] if b_dec_in else x
    if architecture == "gated":
        gate = z @ s["W_enc"] + s["b_gate"] > 0
        f = gate * (z @ (s["W_enc"] * s["r_mag"].exp()) + s["b_mag"]).relu()
        return f, f @ s["W_dec"] + s["b_dec"]
    pre = z @ s["W_enc"] + s["b_enc"]
    norm = s["W_dec"].norm(dim=-1) if rescale else torch.ones(len(s["W_dec"]))
    match architecture:
        case "standard":
            f = pre.relu()
        case "jumprelu":
            f = pre.relu() * (pre > s["threshold"])
        case "topk":
            f = topk(pre * norm).relu()
    return f, (f / norm) @ s["W_dec"] + s["b_dec"]


class TestSAELens:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    @pytest.mark.parametrize("b_dec_in", [True, False])
    @pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
    def test_computes_what_its_architecture_computes(self, tmp_path, architecture, b_dec_in, d, F):
        state = write.write_saelens(tmp_path, architecture, d, F, apply_b_dec_to_input=b_dec_in)
        x, loaded = inputs(d), load_sae(tmp_path)
        assert_computes(loaded.sae, x, *saelens_convention(architecture, state, x, b_dec_in))
        assert (loaded.layer, loaded.model) == (7, "gpt2")

    def test_folds_the_decoder_norms_of_a_rescaling_topk(self, tmp_path):
        state = write.write_saelens(tmp_path, "topk", 24, 64, rescale_acts_by_decoder_norm=True)
        state["W_dec"][3] = 0.0
        save_file(state, tmp_path / "sae_weights.safetensors")
        x = inputs(24)
        f, _ = saelens_convention("topk", state, x, rescale=True)
        norm = state["W_dec"].norm(dim=-1).clamp(min=1e-30)
        assert_computes(load_sae(tmp_path).sae, x, f, (f / norm) @ state["W_dec"] + state["b_dec"])

    @pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
    @pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
    def test_normalises_per_token(self, tmp_path, architecture, normalisation):
        state = write.write_saelens(tmp_path, architecture, 24, 64, normalize_activations=normalisation)
        x = 3.0 * inputs(24)
        if normalisation == "layer_norm":
            mean, out = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
            f, z_hat = saelens_convention(architecture, state, (x - mean) / (out + 1e-5))
        else:
            mean, out = 0.0, x.norm(dim=-1, keepdim=True) / math.sqrt(24)
            f, z_hat = saelens_convention(architecture, state, x / out)
        assert_computes(load_sae(tmp_path).sae, x, f, z_hat * out + mean)

    def test_folds_a_stated_dataset_norm(self, tmp_path):
        state = write.write_saelens(
            tmp_path, "jumprelu", 24, 64, normalize_activations="expected_average_only_in", norm_scaling_factor=0.3
        )
        x = inputs(24)
        f, z_hat = saelens_convention("jumprelu", state, 0.3 * x)
        assert_computes(load_sae(tmp_path).sae, x, f, z_hat / 0.3)

    @pytest.mark.parametrize("value", ["expected_average_only_in", True])
    def test_refuses_a_dataset_norm_that_nobody_states(self, tmp_path, value):
        write.write_saelens(tmp_path, "standard", 24, 64, normalize_activations=value)
        with pytest.raises(SAEFormatError, match="norm_scaling_factor"):
            load_sae(tmp_path)

    @pytest.mark.parametrize("architecture", ["standard", "topk"])
    def test_reads_configs_from_before_version_6(self, tmp_path, architecture):
        state = write.write_saelens_v5(tmp_path, architecture, 24, 64)
        x, loaded = inputs(24), load_sae(tmp_path)
        assert_computes(loaded.sae, x, *saelens_convention(architecture, state, x))
        # resid_pre of block 7 is resid_post of block 6.
        assert (loaded.layer, loaded.model, loaded.format) == (6, "gpt2-small", "saelens")

    @pytest.mark.parametrize(
        "architecture",
        [
            "abstopk",
            "matching_pursuit",
            "temporal",
            "transcoder",
            "skip_transcoder",
            "jumprelu_transcoder",
            "batchtopk",
        ],
    )
    def test_refuses_other_architectures_by_name(self, tmp_path, architecture):
        write.write_saelens(tmp_path, "standard", 24, 64, architecture=architecture)
        with pytest.raises(SAEFormatError, match=f"'{architecture}'.*standard, topk, jumprelu, gated"):
            load_sae(tmp_path)

    @pytest.mark.parametrize(
        ("config", "sentence"),
        [
            ({"reshape_activations": "hook_z"}, "reshape_activations 'hook_z'"),
            ({"normalize_activations": "covariance_whitening"}, "normalize_activations 'covariance_whitening'"),
            ({"activation_fn": "tanh-relu"}, "tanh-relu"),
        ],
    )
    def test_refuses_what_it_cannot_compute(self, tmp_path, config, sentence):
        write.write_saelens(tmp_path, "standard", 24, 64, **config)
        with pytest.raises(SAEFormatError, match=sentence):
            load_sae(tmp_path)

    def test_drops_a_scaling_factor_of_ones_and_refuses_others(self, tmp_path):
        state = write.write_saelens(tmp_path, "standard", 24, 64, extra={"scaling_factor": torch.ones(64)})
        x = inputs(24)
        assert_computes(load_sae(tmp_path).sae, x, *saelens_convention("standard", state, x))
        write.write_saelens(tmp_path, "standard", 24, 64, extra={"scaling_factor": torch.full((64,), 1.1)})
        with pytest.raises(SAEFormatError, match="scaling_factor"):
            load_sae(tmp_path)

    def test_reads_another_hook(self, tmp_path):
        write.write_saelens(tmp_path, "standard", 24, 64, metadata={"hook_name": "blocks.4.hook_mlp_out"})
        loaded = load_sae(tmp_path)
        assert (loaded.layer, loaded.place) == (None, ("mlp_out", 4, "blocks.4.hook_mlp_out"))


class TestSparsify:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    def test_computes_topk_of_relu(self, tmp_path, d, F):
        s = write.write_sparsify(tmp_path / "layers.15", d, F)
        write.write_json(tmp_path / "config.json", {"model": "EleutherAI/pythia-160m"})
        x, loaded = inputs(d), load_sae(tmp_path, subfolder="layers.15")
        f = topk(((x - s["b_dec"]) @ s["encoder.weight"].T + s["encoder.bias"]).relu())
        assert_computes(loaded.sae, x, f, f @ s["W_dec"] + s["b_dec"])
        assert (loaded.layer, loaded.model) == (15, "EleutherAI/pythia-160m")

    def test_num_latents_zero_means_expansion_factor(self, tmp_path):
        write.write_sparsify(tmp_path, 16, 64, num_latents=0, expansion_factor=4)
        assert load_sae(tmp_path).d_sae == 64
        write.write_sparsify(tmp_path, 16, 64, num_latents=0, expansion_factor=8)
        with pytest.raises(SAEFormatError, match=r"encoder.weight.*\[64, 16\].*d_sae=128"):
            load_sae(tmp_path)

    @pytest.mark.parametrize(
        ("config", "sentence"),
        [
            ({"activation": "groupmax"}, "groupmax"),
            ({"signed": True}, "signed"),
            ({"transcode": True}, "transcode"),
            ({"skip_connection": True}, "skip_connection"),
        ],
    )
    def test_refuses_what_it_cannot_compute(self, tmp_path, config, sentence):
        write.write_sparsify(tmp_path, 24, 64, **config)
        with pytest.raises(SAEFormatError, match=sentence):
            load_sae(tmp_path)


class TestGemmaScope:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    def test_gemma_2_is_jumprelu_without_centring(self, tmp_path, d, F):
        folder = tmp_path / "layer_20" / "width_16k" / "average_l0_71"
        s = write.write_gemma2(folder, d, F)
        x, loaded = inputs(d), load_sae(folder)
        pre = x @ s["W_enc"] + s["b_enc"]
        f = pre.relu() * (pre > s["threshold"])
        assert_computes(loaded.sae, x, f, f @ s["W_dec"] + s["b_dec"])
        assert loaded.layer == 20
        assert load_sae(folder / "params.npz").format == "gemma_scope"

    @pytest.mark.parametrize(("d", "F"), SIZES)
    def test_gemma_3_is_jumprelu_without_centring(self, tmp_path, d, F):
        s = write.write_gemma3(tmp_path, d, F)
        x, loaded = inputs(d), load_sae(tmp_path)
        pre = x @ s["w_enc"] + s["b_enc"]
        f = pre.relu() * (pre > s["threshold"])
        assert_computes(loaded.sae, x, f, f @ s["w_dec"] + s["b_dec"])
        assert (loaded.layer, loaded.model) == (13, "gemma-3-1b-pt")

    def test_refuses_transcoders_and_other_architectures(self, tmp_path):
        write.write_gemma3(tmp_path, 24, 64, hf_hook_point_out="model.layers.13.mlp.output")
        with pytest.raises(SAEFormatError, match="transcoder"):
            load_sae(tmp_path)
        write.write_gemma3(tmp_path, 24, 64, extra={"affine_skip_connection": torch.zeros(24, 24)})
        with pytest.raises(SAEFormatError, match="transcoder"):
            load_sae(tmp_path)
        write.write_gemma3(tmp_path, 24, 64, architecture="top_k")
        with pytest.raises(SAEFormatError, match="'top_k'"):
            load_sae(tmp_path)


class TestLlamaScope:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    @pytest.mark.parametrize("b_dec_in", [False, True])
    def test_scales_inputs_and_threshold_by_the_dataset_norm(self, tmp_path, d, F, b_dec_in):
        s = write.write_llama_scope(tmp_path, d, F, apply_decoder_bias_to_pre_encoder=b_dec_in)
        x, loaded, c = inputs(d), load_sae(tmp_path), math.sqrt(d) / 3.0
        z = c * x - s["decoder.bias"] if b_dec_in else c * x
        pre = z @ s["encoder.weight"].T + s["encoder.bias"]
        f = pre.relu() * (pre > 0.25 * c)
        assert_computes(loaded.sae, x, f, (f @ s["decoder.weight"].T + s["decoder.bias"]) / c)
        assert loaded.layer == 19

    @pytest.mark.parametrize("include_norm", [False, True])
    def test_r1_distill_has_a_threshold_per_feature(self, tmp_path, include_norm):
        s = write.write_llama_scope_r1(tmp_path, 24, 64, sparsity_include_decoder_norm=include_norm)
        x, loaded, c = inputs(24), load_sae(tmp_path), math.sqrt(24) / 3.0
        pre = c * x @ s["encoder.weight"].T + s["encoder.bias"]
        score = pre * s["decoder.weight"].norm(dim=0) if include_norm else pre
        f = pre.relu() * (score > s["log_jumprelu_threshold"].exp())
        assert_computes(loaded.sae, x, f, (f @ s["decoder.weight"].T + s["decoder.bias"]) / c)
        assert (loaded.layer, loaded.format) == (15, "llama_scope")

    def test_takes_the_norm_of_an_r1_file_from_its_config(self, tmp_path):
        write.write_llama_scope_r1(tmp_path, 24, 64, with_norm=False)
        with pytest.raises(SAEFormatError, match="dataset_average_activation_norm"):
            load_sae(tmp_path)
        write.write_llama_scope_r1(tmp_path, 24, 64, with_norm=False, dataset_average_activation_norm={"in": 3.0})
        with_config = load_sae(tmp_path).sae
        write.write_llama_scope_r1(tmp_path, 24, 64)
        torch.testing.assert_close(with_config.W_enc, load_sae(tmp_path).sae.W_enc)

    @pytest.mark.parametrize(
        ("config", "sentence"),
        [
            ({"act_fn": "topk"}, "'topk'"),
            ({"norm_activation": "batch-wise"}, "'batch-wise'"),
            ({"hook_point_out": "blocks.19.hook_mlp_out"}, "transcoder"),
            ({"jump_relu_threshold": None}, "jump_relu_threshold"),
            ({"use_glu_encoder": True}, "GLU"),
        ],
    )
    def test_refuses_what_it_cannot_compute(self, tmp_path, config, sentence):
        write.write_llama_scope(tmp_path, 24, 64, **config)
        with pytest.raises(SAEFormatError, match=sentence):
            load_sae(tmp_path)


class TestQwenScope:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    @pytest.mark.parametrize("layer", [3, 4])
    def test_picks_the_layer(self, tmp_path, d, F, layer):
        s = write.write_qwen_scope(tmp_path, d, F)[layer]
        x, loaded = inputs(d), load_sae(tmp_path, layer=layer)
        f = topk((x @ s["W_enc"].T + s["b_enc"]).relu())
        assert_computes(loaded.sae, x, f, f @ s["W_dec"].T + s["b_dec"])
        assert (loaded.layer, loaded.model) == (layer, "Qwen/Qwen3-1.7B-Base")
        by_file = load_sae(tmp_path / f"layer{layer}.sae.pt")
        assert torch.equal(by_file.sae.W_enc, loaded.sae.W_enc) and by_file.path == loaded.path

    def test_needs_a_layer_among_several(self, tmp_path):
        write.write_qwen_scope(tmp_path, 24, 64)
        with pytest.raises(SAEFormatError, match="layers 3, 4, and no layer is named"):
            load_sae(tmp_path)
        with pytest.raises(SAEFormatError, match="layers 3, 4, and layer 9 isn't among them"):
            load_sae(tmp_path, layer=9)

    def test_k_comes_from_the_user_where_no_config_states_it(self, tmp_path):
        write.write_qwen_scope(tmp_path, 24, 64, layers=(3,), config=False)
        with pytest.raises(SAEFormatError, match=r"doesn't state its k.*topk: 64"):
            load_sae(tmp_path)
        assert load_sae(tmp_path, activation={"topk": 9}).sae.k == 9


class TestOpenAI:
    @pytest.mark.parametrize(("d", "F"), SIZES)
    @pytest.mark.parametrize("activation", ["TopK", "ReLU"])
    def test_computes_what_its_class_computes(self, tmp_path, d, F, activation):
        s = write.write_openai(tmp_path, d, F, activation)
        x = 3.0 * inputs(d)
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        z = (x - mean) / (std + 1e-5) if activation == "TopK" else x
        pre = (z - s["pre_bias"]) @ s["encoder.weight"].T + s["latent_bias"]
        f = topk(pre).relu() if activation == "TopK" else pre.relu()
        x_hat = f @ s["decoder.weight"].T + s["pre_bias"]
        assert_computes(load_sae(tmp_path).sae, x, f, x_hat * std + mean if activation == "TopK" else x_hat)

    @pytest.mark.parametrize(("activation", "after"), [("Identity", "ReLU"), ("TopK", "Identity")])
    def test_refuses_other_activations(self, tmp_path, activation, after):
        write.write_openai(tmp_path, 24, 64, activation, after)
        with pytest.raises(SAEFormatError, match="Identity"):
            load_sae(tmp_path)

    def test_refuses_to_choose_between_files(self, tmp_path):
        write.write_openai(tmp_path, 24, 64)
        (tmp_path / "other.pt").write_bytes((tmp_path / "resid_post_mlp_layer_6.pt").read_bytes())
        with pytest.raises(SAEFormatError, match="several SAEs"):
            load_sae(tmp_path)
        assert load_sae(tmp_path / "other.pt").format == "openai"


@pytest.mark.parametrize(("d", "F"), SIZES)
def test_goodfire_is_a_plain_relu(tmp_path, d, F):
    s = write.write_goodfire(tmp_path, d, F)
    x = inputs(d)
    f = (x @ s["encoder_linear.weight"].T + s["encoder_linear.bias"]).relu()
    x_hat = f @ s["decoder_linear.weight"].T + s["decoder_linear.bias"]
    assert_computes(load_sae(tmp_path).sae, x, f, x_hat)


WRITERS = {
    **{f"dictionary_learning {n}": lambda p, n=n: write.write_dictionary_learning(p, n, 24, 64) for n in DICT_CLASSES},
    "dictionary_learning backup": lambda p: write.write_crash_backup(p, "BatchTopKSAE", 24, 64),
    "saelens standard": lambda p: write.write_saelens(p, "standard", 24, 64),
    "saelens topk": lambda p: write.write_saelens(p, "topk", 24, 64),
    "saelens jumprelu": lambda p: write.write_saelens(p, "jumprelu", 24, 64),
    "saelens gated": lambda p: write.write_saelens(p, "gated", 24, 64),
    "saelens v5": lambda p: write.write_saelens_v5(p, "topk", 24, 64),
    "sparsify": lambda p: write.write_sparsify(p, 24, 64),
    "gemma_scope npz": lambda p: write.write_gemma2(p, 24, 64),
    "gemma_scope safetensors": lambda p: write.write_gemma3(p, 24, 64),
    "llama_scope": lambda p: write.write_llama_scope(p, 24, 64),
    "llama_scope r1": lambda p: write.write_llama_scope_r1(p, 24, 64),
    "qwen_scope": lambda p: write.write_qwen_scope(p, 24, 64, layers=(3,)),
    "openai": lambda p: write.write_openai(p, 24, 64),
    "goodfire": lambda p: write.write_goodfire(p, 24, 64),
}


@pytest.mark.parametrize("case", WRITERS)
class TestEveryFormat:
    def test_is_recognised_as_itself_and_by_no_other(self, tmp_path, case):
        # The folder is named after another format, and must not be believed.
        folder = tmp_path / "saelens-gemma-scope-layer0.sae.pt"
        folder.mkdir()
        WRITERS[case](folder)
        assert [format_.name for format_ in FORMATS if format_.recognises(folder)] == [case.split()[0]]

    def test_is_described_as_it_is_loaded(self, tmp_path, case):
        WRITERS[case](tmp_path)
        description, loaded = describe_sae(tmp_path), load_sae(tmp_path)
        for name in ("format", "path", "d_model", "d_sae", "layer", "model", "notes"):
            assert getattr(description, name) == getattr(loaded, name)
        assert (description.activation, description.k) == (loaded.sae.activation, loaded.sae.k)
        assert (loaded.d_model, loaded.d_sae) == (24, 64)

    def test_is_loaded_again_from_its_own_path_and_layer(self, tmp_path, case):
        WRITERS[case](tmp_path)
        first = load_sae(tmp_path)
        again = load_sae(first.path, layer=first.layer)
        assert (again.path, again.layer, again.format) == (first.path, first.layer, first.format)
        assert torch.equal(again.sae.W_enc, first.sae.W_enc)

    def test_is_in_canonical_form(self, tmp_path, case):
        WRITERS[case](tmp_path)
        sae = load_sae(tmp_path).sae
        for name, shape in {"W_enc": (64, 24), "W_dec": (64, 24), "b_enc": (64,), "b_dec": (24,)}.items():
            tensor = getattr(sae, name)
            assert tensor.shape == shape and tensor.is_contiguous() and not tensor.requires_grad

    def test_outlives_its_file(self, tmp_path, case):
        WRITERS[case](tmp_path)
        sae = load_sae(tmp_path).sae
        before = encode(inputs(24), sae)
        for path in tmp_path.rglob("*.*"):
            if path.is_file():
                path.write_bytes(b"")
        assert torch.equal(encode(inputs(24), sae), before)


class TestActivation:
    def pre(self, state, x):
        return ((x - state["b_dec"]) @ state["encoder.weight"].T + state["encoder.bias"]).relu()

    @pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE"])
    @pytest.mark.parametrize(
        ("activation", "expected"),
        [
            ("topk", lambda pre: topk(pre)),
            ({"topk": 9}, lambda pre: topk(pre, 9)),
            ({"topk": 9.0}, lambda pre: topk(pre, 9)),
            ("threshold", lambda pre: pre * (pre > 0.4)),
            ({"threshold": 0.7}, lambda pre: pre * (pre > 0.7)),
        ],
    )
    def test_can_be_forced(self, tmp_path, name, activation, expected):
        state = write.write_dictionary_learning(tmp_path, name, 24, 64)
        x = inputs(24)
        f = expected(self.pre(state, x))
        loaded = load_sae(tmp_path, activation=activation)
        assert_computes(loaded.sae, x, f, f @ state["decoder.weight"].T + state["b_dec"])

    def test_threshold_is_strict(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 4, 4)
        state = torch.load(tmp_path / "ae.pt")
        state |= {"encoder.weight": torch.eye(4), "encoder.bias": torch.zeros(4), "b_dec": torch.zeros(4)}
        torch.save({**state, "threshold": torch.tensor(0.5)}, tmp_path / "ae.pt")
        config = write.dictionary_learning_config("BatchTopKSAE", 4, 4)
        config["trainer"]["k"] = K
        write.write_json(tmp_path / "config.json", config)
        f = encode(torch.tensor([[0.5, 0.75, 0.25, -1.0]]), load_sae(tmp_path).sae)
        assert f.tolist() == [[0.0, 0.75, 0.0, 0.0]]

    @pytest.mark.parametrize(
        ("activation", "sentence"),
        [
            ("relu", "accepted are auto, topk, threshold"),
            ({"topk": 0}, "from 1 to 64"),
            ({"topk": 65}, "from 1 to 64"),
            ({"topk": 2.5}, "2.5"),
            ({"topk": math.inf}, "inf"),
            ({"topk": True}, "True"),
            ({"threshold": "high"}, "'high'"),
            ({"threshold": math.nan}, "nan, expected a finite number"),
            ({"threshold": None}, "None, expected a finite number"),
            ({"topk": 4, "threshold": 1.0}, "accepted are"),
            ({}, "accepted are"),
        ],
    )
    def test_refuses_nonsense(self, tmp_path, activation, sentence):
        write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        with pytest.raises(SAEFormatError, match=sentence):
            load_sae(tmp_path, activation=activation)

    def test_needs_what_the_file_lacks(self, tmp_path):
        write.write_dictionary_learning(tmp_path / "relu", "AutoEncoder", 24, 64)
        with pytest.raises(SAEFormatError, match="stores no threshold"):
            load_sae(tmp_path / "relu", activation="threshold")
        with pytest.raises(SAEFormatError, match="None, expected a finite number"):
            load_sae(tmp_path / "relu", activation={"threshold": None})
        with pytest.raises(SAEFormatError, match="doesn't state its k"):
            load_sae(tmp_path / "relu", activation="topk")
        write.write_dictionary_learning(tmp_path / "gated", "GatedAutoEncoder", 24, 64)
        with pytest.raises(SAEFormatError, match="gated"):
            load_sae(tmp_path / "gated", activation={"topk": 4})
        write.write_dictionary_learning(tmp_path / "topk", "AutoEncoderTopK", 24, 64, threshold=-1.0)
        with pytest.raises(SAEFormatError, match="never measured"):
            load_sae(tmp_path / "topk", activation="threshold")


class TestNumbers:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_weights_keep_their_dtype(self, tmp_path, dtype):
        state = write.write_saelens(tmp_path, "jumprelu", 24, 64, dtype=dtype)
        sae = load_sae(tmp_path).sae
        assert sae.W_enc.dtype == sae.W_dec.dtype == dtype
        assert sae.b_enc.dtype == sae.b_dec.dtype == sae.threshold.dtype == torch.float32
        exact = state["b_enc"].double() - state["b_dec"].double() @ state["W_enc"].double()
        assert torch.equal(sae.b_enc, exact.float())

    def test_folded_scales_round_once_to_the_stored_dtype(self, tmp_path):
        state = write.write_llama_scope(tmp_path, 24, 64, dtype=torch.bfloat16)
        sae, c = load_sae(tmp_path).sae, math.sqrt(24) / 3.0
        assert torch.equal(sae.W_enc, (state["encoder.weight"].float() * c).bfloat16())
        assert torch.equal(sae.W_dec, (state["decoder.weight"].T.float() / c).bfloat16())

    @pytest.mark.parametrize("key", ["encoder.weight", "decoder.weight", "encoder.bias", "b_dec"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_refuses_nan_and_infinity(self, tmp_path, key, value):
        state = write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        state[key].view(-1)[-1] = value
        torch.save(state, tmp_path / "ae.pt")
        with pytest.raises(SAEFormatError, match="NaN or infinity"):
            load_sae(tmp_path)


class TestDamage:
    """Each message is one sentence that names the file."""

    def refuse(self, folder, *words, **options):
        with pytest.raises(SAEFormatError) as caught:
            load_sae(folder, **options)
        for word in words:
            assert word in caught.value.message
        assert "\n" not in caught.value.message

    @pytest.mark.parametrize(
        ("case", "missing"),
        [
            ("dictionary_learning BatchTopKSAE", "ae.pt"),
            ("dictionary_learning BatchTopKSAE", "config.json"),
            ("saelens topk", "cfg.json"),
            ("saelens topk", "sae_weights.safetensors"),
            ("sparsify", "cfg.json"),
            ("sparsify", "sae.safetensors"),
            ("llama_scope", "hyperparams.json"),
            ("llama_scope", "checkpoints/final.safetensors"),
            ("llama_scope r1", "config.json"),
            ("llama_scope r1", "sae_weights.safetensors"),
        ],
    )
    def test_missing_file(self, tmp_path, case, missing):
        WRITERS[case](tmp_path)
        (tmp_path / missing).unlink()
        self.refuse(tmp_path, missing, "is missing")

    @pytest.mark.parametrize("key", ["encoder.weight", "encoder.bias", "decoder.weight", "b_dec"])
    def test_missing_key(self, tmp_path, key):
        state = write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        torch.save({name: tensor for name, tensor in state.items() if name != key}, tmp_path / "ae.pt")
        self.refuse(tmp_path, "ae.pt", f"no tensor `{key}`", "threshold")

    def test_missing_threshold_of_a_batch_topk(self, tmp_path):
        state = write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64)
        del state["threshold"]
        torch.save(state, tmp_path / "ae.pt")
        self.refuse(tmp_path, "`threshold`")

    @pytest.mark.parametrize(
        ("key", "shape"),
        [("encoder.weight", (24, 64)), ("decoder.weight", (64, 24)), ("encoder.bias", (63,)), ("b_dec", (24, 1))],
    )
    def test_wrong_shape(self, tmp_path, key, shape):
        state = write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        torch.save({**state, key: torch.zeros(shape)}, tmp_path / "ae.pt")
        self.refuse(tmp_path, "ae.pt", key, str(list(shape)), "expected [")

    def test_integer_weights(self, tmp_path):
        state = write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        torch.save({**state, "encoder.weight": torch.zeros(64, 24, dtype=torch.int8)}, tmp_path / "ae.pt")
        self.refuse(tmp_path, "encoder.weight", "int8")

    def test_unknown_class(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        write.write_json(tmp_path / "config.json", {"trainer": {"dict_class": "CrossCoder"}})
        self.refuse(tmp_path, "'CrossCoder'", "BatchTopKSAE")

    def test_config_of_another_k(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "AutoEncoderTopK", 24, 64)
        config = write.dictionary_learning_config("AutoEncoderTopK", 24, 64)
        config["trainer"]["k"] = 7
        write.write_json(tmp_path / "config.json", config)
        self.refuse(tmp_path, "k=5", "k=7")

    @pytest.mark.parametrize("k", [None, 0, "64", True])
    def test_config_without_a_usable_k(self, tmp_path, k):
        write.write_sparsify(tmp_path, 24, 64, k=k)
        self.refuse(tmp_path, "cfg.json", "`k`", "positive integer")

    def test_truncated_files(self, tmp_path):
        for case, name in [
            ("dictionary_learning AutoEncoder", "ae.pt"),
            ("saelens standard", "sae_weights.safetensors"),
            ("gemma_scope npz", "params.npz"),
        ]:
            folder = tmp_path / name
            folder.mkdir()
            WRITERS[case](folder)
            (folder / name).write_bytes((folder / name).read_bytes()[:200])
            self.refuse(folder, name)

    def test_broken_json(self, tmp_path):
        write.write_saelens(tmp_path, "standard", 24, 64)
        (tmp_path / "cfg.json").write_text("{")
        self.refuse(tmp_path, "cfg.json", "JSON")
        (tmp_path / "cfg.json").write_text("[]")
        self.refuse(tmp_path, "cfg.json", "list")

    def test_pickled_code_is_never_run(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "AutoEncoder", 24, 64)
        torch.save(torch.nn.Linear(24, 64), tmp_path / "ae.pt")
        self.refuse(tmp_path, "ae.pt", "state_dict")

    def test_pickle_of_something_else(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "AutoEncoder", 24, 64)
        torch.save(torch.zeros(3), tmp_path / "ae.pt")
        self.refuse(tmp_path, "ae.pt", "Tensor", "state dict")

    def test_folder_without_an_sae(self, tmp_path):
        self.refuse(tmp_path, "an empty folder", "dictionary_learning (ae.pt + config.json)")
        (tmp_path / "readme.md").write_text("x")
        (tmp_path / "trainer_0").mkdir()
        self.refuse(tmp_path, "readme.md, trainer_0/", "subfolder")
        self.refuse(tmp_path / "readme.md", "another kind of file")

    def test_legacy_pickles_are_read(self, tmp_path):
        state = write.write_dictionary_learning(tmp_path, "AutoEncoder", 24, 64)
        torch.save(state, tmp_path / "ae.pt", _use_new_zipfile_serialization=False)
        x = inputs(24)
        assert_computes(load_sae(tmp_path).sae, x, *dictionary_learning_convention("AutoEncoder", state, x))


class TestMaxAct:
    def test_is_loaded_where_it_was_recorded(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64)
        assert load_sae(tmp_path).sae.max_act is None
        recorded = torch.arange(64).half()
        save_file({"max_act": recorded}, max_act_path(load_sae(tmp_path).path))
        assert (tmp_path / "tiller_max_act.safetensors").is_file()
        max_act = load_sae(tmp_path).sae.max_act
        assert max_act.dtype == torch.float32 and torch.equal(max_act, recorded.float())

    def test_belongs_to_one_layer_of_a_folder(self, tmp_path):
        write.write_qwen_scope(tmp_path, 24, 64)
        save_file({"max_act": torch.ones(64)}, max_act_path(load_sae(tmp_path, layer=3).path))
        assert load_sae(tmp_path, layer=3).sae.max_act is not None
        assert load_sae(tmp_path, layer=4).sae.max_act is None

    def test_of_another_size_is_refused(self, tmp_path):
        write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64)
        save_file({"max_act": torch.ones(63)}, tmp_path / "tiller_max_act.safetensors")
        with pytest.raises(SAEFormatError, match=r"max_act.*\[63\].*d_sae=64"):
            load_sae(tmp_path)


class TestFit:
    @pytest.mark.parametrize("read", [load_sae, describe_sae])
    def test_width_and_layer(self, tmp_path, read):
        write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64)
        sae = read(tmp_path)
        check_fits(sae, hidden_size=24, num_layers=16, layer=15)
        with pytest.raises(SAEFormatError, match=r"width 24, the model's is 32 \(it was trained on Qwen"):
            check_fits(sae, hidden_size=32, num_layers=16, layer=15)
        for layer in (16, -1):
            with pytest.raises(SAEFormatError, match=f"layer is {layer}, the model has layers 0 to 15") as caught:
                check_fits(sae, hidden_size=24, num_layers=16, layer=layer)
            assert caught.value.field == "layer"

    def test_description_reads_no_weights(self, tmp_path):
        state = write.write_dictionary_learning(tmp_path, "BatchTopKSAE", 24, 64)
        state["encoder.weight"].fill_(math.nan)
        torch.save(state, tmp_path / "ae.pt")
        assert describe_sae(tmp_path).d_model == 24


class TestOracles:
    """The same files through the projects' own code, where it is installed."""

    @pytest.mark.parametrize("name", DICT_CLASSES)
    def test_dictionary_learning(self, tmp_path, name):
        pytest.importorskip("dictionary_learning", reason="dictionary-learning isn't installed: oracle not consulted")
        from dictionary_learning import dictionary
        from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
        from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
        from dictionary_learning.trainers.top_k import AutoEncoderTopK

        match name:
            case "AutoEncoderTopK":
                model = AutoEncoderTopK(24, 64, K)
            case "BatchTopKSAE":
                model = BatchTopKSAE(24, 64, K)
            case "MatryoshkaBatchTopKSAE":
                model = MatryoshkaBatchTopKSAE(24, 64, K, [16, 48])
            case _:
                model = getattr(dictionary, name)(24, 64)
        state = write.dictionary_learning_state(name, 24, 64)
        model.load_state_dict({**state, **({"group_sizes": torch.tensor([16, 48])} if "Matryoshka" in name else {})})
        torch.save(model.state_dict(), tmp_path / "ae.pt")
        write.write_json(tmp_path / "config.json", write.dictionary_learning_config(name, 24, 64))
        x = inputs(24)
        with torch.no_grad():
            f = model.encode(x)
            assert_computes(load_sae(tmp_path).sae, x, f, model.decode(f))

    @pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated"])
    @pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale"])
    def test_saelens(self, tmp_path, architecture, normalisation):
        sae_lens = pytest.importorskip("sae_lens", reason="sae-lens isn't installed: oracle not consulted")
        write.write_saelens(tmp_path / "ours", architecture, 24, 64, normalize_activations=normalisation)
        if architecture == "topk":
            config = json.loads((tmp_path / "ours" / "cfg.json").read_text())
            write.write_json(tmp_path / "ours" / "cfg.json", config | {"rescale_acts_by_decoder_norm": True})
        theirs = sae_lens.SAE.load_from_disk(tmp_path / "ours")
        theirs.save_model(tmp_path / "theirs")
        x = 3.0 * inputs(24)
        with torch.no_grad():
            f = theirs.encode(x)
            x_hat = theirs.decode(f)
        assert_computes(load_sae(tmp_path / "theirs").sae, x, f, x_hat)

    @pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk", "topk"])
    def test_saelens_trained_and_saved_for_inference(self, tmp_path, architecture):
        sae_lens = pytest.importorskip("sae_lens", reason="sae-lens isn't installed: oracle not consulted")
        from sae_lens.registry import get_sae_training_class

        model, config = get_sae_training_class(architecture)
        widths = {"matryoshka_widths": [16, 64]} if architecture == "matryoshka_batchtopk" else {}
        trained = model(config(d_in=24, d_sae=64, k=K, **widths))
        state = write.linear(24, 64)
        with torch.no_grad():
            for name in ("W_dec", "b_enc", "b_dec"):
                getattr(trained, name).copy_(state[name])
            if architecture != "topk":
                trained.topk_threshold.fill_(0.3)
        trained.save_inference_model(tmp_path)
        theirs, x = sae_lens.SAE.load_from_disk(tmp_path), inputs(24)
        with torch.no_grad():
            f = theirs.encode(x)
            assert_computes(load_sae(tmp_path).sae, x, f, theirs.decode(f))


def test_npz_of_float16_keeps_it(tmp_path):
    state = {name: tensor.numpy().astype(np.float16) for name, tensor in write.write_gemma2(tmp_path, 24, 64).items()}
    np.savez(tmp_path / "params.npz", **state)
    assert load_sae(tmp_path).sae.W_enc.dtype == torch.float16


def test_error_messages_name_files_that_exist(tmp_path):
    write.write_saelens(tmp_path, "standard", 24, 64)
    state = load_file(tmp_path / "sae_weights.safetensors")
    save_file({name: tensor for name, tensor in state.items() if name != "b_dec"}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(SAEFormatError, match=re.escape(str(tmp_path / "sae_weights.safetensors"))):
        load_sae(tmp_path)
