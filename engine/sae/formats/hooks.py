"""Which tensor of a decoder layer a hook name or a path means.

Sites: resid_pre, resid_mid and resid_post of the residual stream, mlp_in (the MLP's normalised input), mlp_out, attn_out,
attn_z (the heads' outputs before o_proj), embed, and the transcoders' and crosscoders' pairs of several places.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """A site, its decoder layer where the name says it, and the name."""

    site: str
    layer: int | None
    name: str

    @property
    def residual_layer(self) -> int | None:
        """The decoder layer whose resid_post this is: resid_pre.L is resid_post.L-1."""
        if self.layer is None or self.site not in ("resid_post", "resid_pre"):
            return None
        return self.layer if self.site == "resid_post" else self.layer - 1


_BLOCK = r"blocks\.(\d+)\."  # TransformerLens, SAELens, Llama Scope
_LAYER = r"(?:.*\.)?(?:layers|h)[._](\d+)"  # Hugging Face
_ATTENTION = r"(?:self_attn|self_attention|attention|attn)"
_HOOKS = [
    ("resid_post", rf"{_BLOCK}hook_resid_post|{_LAYER}(?:\.output)?|resid_(?:post_mlp_|post_|out_)?layer_?(\d+)"),
    ("resid_pre", rf"{_BLOCK}hook_resid_pre|{_LAYER}\.input|resid_pre_layer_?(\d+)"),
    ("resid_mid", rf"{_BLOCK}hook_resid_mid|resid_(?:mid|post_attn)_layer_?(\d+)"),
    (
        "mlp_in",
        rf"{_BLOCK}(?:hook_mlp_in|ln2\.hook_normalized)|{_LAYER}\.(?:pre_feedforward_layernorm\.output|mlp\.input)",
    ),
    (
        "mlp_out",
        rf"{_BLOCK}hook_mlp_out|{_LAYER}\.(?:mlp|post_feedforward_layernorm)(?:\.output)?"
        r"|(?:mlp_out|mlp|resid_delta_mlp)_layer_?(\d+)",
    ),
    (
        "attn_out",
        rf"{_BLOCK}hook_attn_out|{_LAYER}\.{_ATTENTION}(?:\.output)?"
        r"|(?:attn_out|att_out|attention|attn|resid_delta_attn)_layer_?(\d+)",
    ),
    ("attn_z", rf"{_BLOCK}attn\.hook_z|{_LAYER}\.{_ATTENTION}\.(?:o_proj|dense|c_proj)\.input"),
    ("mlp_hidden", rf"{_BLOCK}mlp\.hook_(?:post|pre)|mlp_post_act_layer_?(\d+)"),
    ("embed", r"hook_embed|embed(?:_tokens)?|model\.embed_tokens"),
]
_RELEASES = [  # folders and repositories that hold the SAEs of one site
    ("resid_post", r"resid_post(?:_all)?|gemma-scope-.+-res|Llama.*-L\w+R-\d+x"),
    ("resid_pre", r"resid_pre(?:_all)?"),
    ("resid_mid", r"resid_mid(?:_all)?"),
    ("mlp_out", r"mlp_out(?:_all)?|gemma-scope-.+-mlp|Llama.*-L\w+M-\d+x"),
    ("attn_out", r"attn_out(?:_all)?|Llama.*-L\w+A-\d+x"),
    ("attn_z", r"attn_z(?:_all)?|gemma-scope-.+-att"),
    ("transcoder", r"(?:skip_)?transcoders?(?:_all|_affine)?|gemma-scope-.+-transcoders|Llama.*-L\w+TC-\d+x"),
    ("crosscoder", r"crosscoders?(?:_all)?|gemma-scope-.+-crosscoders?"),
    ("cross-layer transcoder", r"clt"),
]
_HINTS = re.compile(r"mlp|attn?|attention|transcoders?|crosscoders?", re.IGNORECASE)


def place_of(hook: str) -> Place | None:
    """The place that a hook name means; None for a name of another form."""
    for site, pattern in _HOOKS:
        if match := re.fullmatch(pattern, hook):
            return Place(site, next((int(group) for group in match.groups() if group), None), hook)
    return Place(hook, None, hook) if hook in ("resid_post", "resid_pre") else None


def place_in(parts: Sequence[str]) -> Place | None:
    """The place that a path's components name, the innermost first; None where none is certain."""
    for part in reversed(parts):
        name = part.rpartition("--")[2]  # a hub cache has `models--organisation--name`
        if found := place_of(name.removesuffix(".pt")):
            return found
        for site, pattern in _RELEASES:
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return Place(site, None, name)
    return None


def hint_in(parts: Sequence[str]) -> str | None:
    """A path component with a word that other sites go by, such as `my-mlp-run`; None where there is none."""
    return next((part for part in reversed(parts) if any(map(_HINTS.fullmatch, re.split(r"[^A-Za-z]+", part)))), None)
