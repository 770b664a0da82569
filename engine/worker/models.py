"""vLLM's own model classes with steering sites in their decoder layers.

One line of ARCHITECTURES per family. Parameters keep their names, so weights load untouched; a model whose engine has no
plan is vLLM's model in every respect.
"""

from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from tiller.engine import compat
from tiller.engine.architectures import ARCHITECTURES, Architecture, Convention
from tiller.engine.inventory import Plan, plan_of
from tiller.engine.sae.loader import load_sae
from tiller.engine.sae.vector import load_vector
from tiller.kernels.dispatch import backend

from .memory import check_room, make_workspace
from .rpc import METHODS
from .runner_v1 import after_forward, before_forward
from .runner_v2 import steered_model_state_cls
from .site import Site
from .steering import Steering

library = torch.library.Library("tiller", "FRAGMENT")
library.define("steer_pair(Tensor(a!) hidden, Tensor(b!) residual, str site) -> ()")
library.define("steer_single(Tensor(a!) hidden, str site) -> ()")


@torch.library.impl(library, "steer_pair", "CompositeExplicitAutograd")
def _steer_pair(hidden: Tensor, residual: Tensor, site: str) -> None:
    compat.forward_layer(site).steer_(hidden, residual)


@torch.library.impl(library, "steer_single", "CompositeExplicitAutograd")
def _steer_single(hidden: Tensor, site: str) -> None:
    compat.forward_layer(site).steer_(hidden, None)


@torch.library.register_fake("tiller::steer_pair", lib=library)
def _steer_pair_fake(hidden: Tensor, residual: Tensor, site: str) -> None:
    return None


@torch.library.register_fake("tiller::steer_single", lib=library)
def _steer_single_fake(hidden: Tensor, site: str) -> None:
    return None


def __getattr__(name: str) -> type[nn.Module]:
    """`Steered<architecture>`, made when vLLM asks for it, so that no other model is imported."""
    architecture = name.removeprefix("Steered")
    if architecture == name or architecture not in ARCHITECTURES:
        raise AttributeError(name)
    return steered_class(architecture)


@cache
def steered_class(architecture: str) -> type[nn.Module]:
    """vLLM's class for `architecture` with SteeredModel in front."""
    entry = ARCHITECTURES[architecture]
    base = getattr(import_module(f"vllm.model_executor.models.{entry.module}"), entry.name or architecture)
    body = {"architecture": entry, "__module__": __name__}
    return type(f"Steered{architecture}", (SteeredModel, base), body)


class SteeredModel(nn.Module):
    """Mixed in before vLLM's model class; `tiller` is the steering state, None where the engine has no plan."""

    architecture: Architecture
    tiller: Steering | None

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        plan = plan_of(vllm_config.additional_config)
        if plan is not None and (prefix or compat.is_draft_model(vllm_config)):
            plan = None
        if plan is not None:
            compat.check_supported(vllm_config)
            compat.wrap_v1_forward(before_forward, after_forward)
            compat.add_worker_methods(METHODS)
            # Before super(), which hashes the config: vLLM's compile cache sees the plan there, but not our version.
            vllm_config.additional_config["tiller_digest"] = plan.digest
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self._vllm_config = vllm_config
        self.tiller = None if plan is None else self._install(plan, vllm_config)

    def _install(self, plan: Plan, vllm_config: Any) -> Steering:
        d_model = vllm_config.model_config.get_hidden_size()
        steering = load_steering(plan, d_model, compat.largest_batch(vllm_config))
        layers = attrgetter(self.architecture.layers)(self)
        for site in steering.site_list():
            install_site(layers[site.layer], site, self.architecture.convention, vllm_config)
        return steering

    def get_model_state_cls(self) -> type:
        """Model runner V2 asks for the class that keeps its per-request state."""
        base = compat.default_model_state_cls(self._vllm_config, self)
        return base if self.tiller is None else steered_model_state_cls(base)


def load_steering(plan: Plan, d_model: int, largest: compat.LargestBatch) -> Steering:
    """Reads every SAE and vector of `plan` onto the current default device, and makes the buffers that steering needs.

    Raises UnsupportedError where the device has no room for them.
    """
    device, dtype = torch.get_default_device(), torch.get_default_dtype()
    kernels = backend(device) == "triton"
    weights = torch.float32 if device.type == "cpu" else dtype
    saes = {}
    for name, entry in plan.saes.items():
        check_room(f"SAE {name!r}", 2 * entry.d_sae * entry.d_model * weights.itemsize, device)
        saes[name] = load_sae(entry.path, layer=entry.layer, activation=entry.activation).sae.to(device, weights)
    vectors = {name: load_vector(entry.path)[0].to(device) for name, entry in plan.vectors.items()}
    steering = Steering(plan, saes, vectors, d_model, largest.num_requests)
    if kernels:
        workspace = make_workspace(plan, saes, d_model, largest.num_tokens, dtype, device)
        steering.use_kernels(workspace, largest.num_requests)
    return steering


def install_site(layer: nn.Module, site: Site, convention: Convention, vllm_config: Any) -> None:
    """Makes `layer` steer its output at `site`."""
    name = f"tiller.{site.layer}"
    compat.keep_forward_layer(vllm_config, name, site)
    layer.__dict__["tiller_site"] = name
    layer.__class__ = steered_layer_class(type(layer), convention)  # type: ignore[arg-type]


@cache
def steered_layer_class(base: type[nn.Module], convention: Convention) -> type[nn.Module]:
    """`base` with the steering op after its forward."""

    class SteeredLayer(base):  # type: ignore[misc, valid-type]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = super().forward(*args, **kwargs)
            if convention == "pair":
                torch.ops.tiller.steer_pair(out[0], out[1], self.tiller_site)
            else:
                torch.ops.tiller.steer_single(out if convention == "single" else out[0], self.tiller_site)
            return out

    SteeredLayer.__name__ = SteeredLayer.__qualname__ = f"Steered{base.__name__}"
    return SteeredLayer
