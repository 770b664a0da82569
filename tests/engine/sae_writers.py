"""Write small random SAEs in the true layout of each project, and hand back the tensors under that project's names."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

K, STEP, NORM_FACTOR = 5, 300, 3.5


def linear(d, F, seed=0, dtype=torch.float32):
    """Random W_enc [F, d], W_dec [F, d], b_enc [F], b_dec [d], threshold [F] of a plausible scale."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        "W_enc": (randn(F, d) / d**0.5).to(dtype),
        "W_dec": (randn(F, d) / d**0.5).to(dtype),
        "b_enc": 0.3 * randn(F).to(dtype),
        "b_dec": randn(d).to(dtype),
        "threshold": randn(F).abs().to(dtype),
    }


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def contiguous(tensors):
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def dictionary_learning_state(dict_class, d, F, threshold=0.4, dtype=torch.float32):
    t = linear(d, F, dtype=dtype)
    scalars = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(threshold)}
    encoder = {"encoder.weight": t["W_enc"], "encoder.bias": t["b_enc"], "decoder.weight": t["W_dec"].T}
    flat = {"W_enc": t["W_enc"].T, "b_enc": t["b_enc"], "W_dec": t["W_dec"], "b_dec": t["b_dec"]}
    match dict_class:
        case "AutoEncoderTopK" | "BatchTopKSAE":
            state = {**scalars, **encoder, "b_dec": t["b_dec"]}
        case "MatryoshkaBatchTopKSAE":
            state = {**scalars, **flat, "group_sizes": torch.tensor([F // 4, F - F // 4])}
        case "JumpReluAutoEncoder":
            state = {**flat, "threshold": t["threshold"]}
        case "AutoEncoder":
            state = {**encoder, "bias": t["b_dec"]}
        case "AutoEncoderNew":
            state = {**encoder, "decoder.bias": t["b_dec"]}
        case "GatedAutoEncoder":
            other = linear(d, F, seed=1, dtype=dtype)
            state = {
                "decoder_bias": t["b_dec"],
                "encoder.weight": t["W_enc"],
                "r_mag": 0.5 * other["b_enc"],
                "gate_bias": t["b_enc"],
                "mag_bias": other["b_enc"],
                "decoder.weight": t["W_dec"].T,
            }
    return contiguous(state)


def dictionary_learning_config(dict_class, d, F):
    trainer = {
        "dict_class": dict_class,
        "activation_dim": d,
        "dict_size": F,
        "layer": 15,
        "lm_name": "Qwen/Qwen2.5-7B-Instruct",
        "submodule_name": "resid_post_layer_15",
    }
    if "TopK" in dict_class:
        trainer["k"] = K
    return {"trainer": trainer, "buffer": {"ctx_len": 1024}}


def write_dictionary_learning(folder, dict_class, d, F, **options):
    state = dictionary_learning_state(dict_class, d, F, **options)
    write_json(folder / "config.json", dictionary_learning_config(dict_class, d, F))
    torch.save(state, folder / "ae.pt")
    return state


def write_crash_backup(folder, dict_class, d, F):
    """What a run with `backup_steps` leaves behind when it crashes: biases still divided by the norm factor."""
    state = dictionary_learning_state(dict_class, d, F)
    folder.mkdir(parents=True, exist_ok=True)
    parameter = torch.nn.Parameter(state["encoder.weight"].clone())
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    dump = {
        "step": STEP,
        "ae": state,
        "optimizer": optimizer.state_dict(),
        "config": dictionary_learning_config(dict_class, d, F)["trainer"],
        "norm_factor": NORM_FACTOR,
    }
    torch.save(dump, folder / "ae.pt")
    return state


def saelens_state(architecture, d, F, dtype=torch.float32):
    t = linear(d, F, dtype=dtype)
    state = {"W_enc": t["W_enc"].T, "W_dec": t["W_dec"], "b_dec": t["b_dec"]}
    if architecture == "gated":
        other = linear(d, F, seed=1, dtype=dtype)
        state |= {"b_gate": t["b_enc"], "b_mag": other["b_enc"], "r_mag": 0.5 * other["b_enc"].flip(0)}
    else:
        state["b_enc"] = t["b_enc"]
    if architecture == "jumprelu":
        state["threshold"] = t["threshold"]
    return contiguous(state)


def write_saelens(folder, architecture, d, F, /, extra=None, dtype=torch.float32, **config):
    state = saelens_state(architecture, d, F, dtype) | (extra or {})
    metadata = {"hook_name": "blocks.7.hook_resid_post", "model_name": "gpt2", "sae_lens_version": "6.54.12"}
    base = {
        "d_in": d,
        "d_sae": F,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
        "architecture": architecture,
    }
    write_json(folder / "cfg.json", {**base, **({"k": K} if architecture == "topk" else {}), **config})
    save_file(state, folder / "sae_weights.safetensors")
    return state


def write_saelens_v5(folder, architecture, d, F, **config):
    """A config from before SAELens 6: no `architecture`, flat hook fields, a boolean `normalize_activations`."""
    state = saelens_state(architecture, d, F)
    base = {
        "d_in": d,
        "d_sae": F,
        "dtype": "torch.float32",
        "hook_point": "blocks.7.hook_resid_pre",
        "hook_point_layer": 7,
        "model_name": "gpt2-small",
        "expansion_factor": 4,
        "normalize_activations": False,
        "activation_fn_str": "relu",
    }
    if architecture == "topk":
        base |= {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    write_json(folder / "cfg.json", base | config)
    save_file(state, folder / "sae_weights.safetensors")
    return state


def write_sparsify(folder, d, F, **config):
    t = linear(d, F)
    state = {"encoder.weight": t["W_enc"], "encoder.bias": t["b_enc"], "W_dec": t["W_dec"], "b_dec": t["b_dec"]}
    base = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": F,
        "k": K,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": d,
    }
    write_json(folder / "cfg.json", base | config)
    save_file(contiguous(state), folder / "sae.safetensors")
    return state


def write_gemma2(folder, d, F):
    t = linear(d, F)
    state = contiguous(t | {"W_enc": t["W_enc"].T})
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    return state


def write_gemma3(folder, d, F, extra=None, **config):
    t = linear(d, F)
    state = contiguous(
        {"w_enc": t["W_enc"].T, "w_dec": t["W_dec"], **{n: t[n] for n in ("b_enc", "b_dec", "threshold")}}
    )
    base = {
        "architecture": "jump_relu",
        "model_name": "gemma-3-1b-pt",
        "hf_hook_point_in": "model.layers.13.output",
        "hf_hook_point_out": "model.layers.13.output",
        "width": F,
        "l0": 60,
        "type": "sae",
    }
    write_json(folder / "config.json", base | config)
    save_file(state | (extra or {}), folder / "params.safetensors")
    return state


def _openmoss_state(d, F, dtype):
    t = linear(d, F, dtype=dtype)
    return contiguous(
        {
            "encoder.weight": t["W_enc"],
            "encoder.bias": t["b_enc"],
            "decoder.weight": t["W_dec"].T,
            "decoder.bias": t["b_dec"],
        }
    )


def write_llama_scope(folder, d, F, dtype=torch.float32, **config):
    state = _openmoss_state(d, F, dtype)
    base = {
        "hook_point_in": "blocks.19.hook_resid_post",
        "hook_point_out": "blocks.19.hook_resid_post",
        "d_model": d,
        "d_sae": F,
        "expansion_factor": F // d,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.25,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 3.0, "out": 3.0},
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "top_k": 50,
    }
    write_json(folder / "hyperparams.json", base | config)
    (folder / "checkpoints").mkdir()
    save_file(state, folder / "checkpoints" / "final.safetensors")
    return state


def write_llama_scope_r1(folder, d, F, with_norm=True, **config):
    state = _openmoss_state(d, F, torch.float32) | {"log_jumprelu_threshold": linear(d, F)["threshold"].log()}
    hook = "blocks.15.hook_resid_post"
    if with_norm:
        state |= {f"dataset_average_activation_norm.{hook}": torch.tensor(3.0)}
    base = {
        "hook_point_in": hook,
        "hook_point_out": hook,
        "d_model": d,
        "expansion_factor": F // d,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
    }
    write_json(folder / "config.json", base | config)
    save_file(state, folder / "sae_weights.safetensors")
    return state


def write_qwen_scope(folder, d, F, layers=(3, 4), config=True):
    """One file per layer, each with its own numbers; returns the tensors of each layer."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {}
    for layer in layers:
        t = linear(d, F, seed=layer)
        states[layer] = contiguous(
            {"W_enc": t["W_enc"], "W_dec": t["W_dec"].T, "b_enc": t["b_enc"], "b_dec": t["b_dec"]}
        )
        torch.save(states[layer], folder / f"layer{layer}.sae.pt")
    if config:
        base = {"model_type": "topk_sae", "base_model": "Qwen/Qwen3-1.7B-Base", "d_model": d, "d_sae": F, "k": K}
        write_json(folder / "config.json", base | {"num_layers": len(layers), "hook_point": "resid_post"})
    return states


def write_openai(folder, d, F, activation="TopK", postact="ReLU"):
    t = linear(d, F)
    state = contiguous(
        {
            "pre_bias": t["b_dec"],
            "latent_bias": t["b_enc"],
            "encoder.weight": t["W_enc"],
            "decoder.weight": t["W_dec"].T,
            "stats_last_nonzero": torch.zeros(F, dtype=torch.long),
        }
    )
    named = {"activation": activation}
    if activation == "TopK":
        named["activation_state_dict"] = {"k": K, "postact_fn": postact}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state | named, folder / "resid_post_mlp_layer_6.pt")
    return state


def write_goodfire(folder, d, F):
    t = linear(d, F)
    state = contiguous(
        {
            "encoder_linear.weight": t["W_enc"],
            "encoder_linear.bias": t["b_enc"],
            "decoder_linear.weight": t["W_dec"].T,
            "decoder_linear.bias": t["b_dec"],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "Llama-3.1-8B-Instruct-SAE-l19.pth")
    return state


def write_hub_cache(cache: Path, repo_id: str, write) -> None:
    """A hub cache as huggingface_hub leaves it: `write(folder)` fills the snapshot, whose files then link to blobs."""
    repo, revision = cache / f"models--{repo_id.replace('/', '--')}", "0123456789abcdef0123456789abcdef01234567"
    for name in ("refs", "blobs", f"snapshots/{revision}"):
        (repo / name).mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    snapshot = repo / "snapshots" / revision
    write(snapshot)
    for number, file in enumerate(path for path in sorted(snapshot.rglob("*")) if path.is_file()):
        file.symlink_to(file.rename(repo / "blobs" / f"{number:064x}"))
