"""Which layer's resid_post a hook name means."""

import re

_POST = re.compile(r"blocks\.(\d+)\.hook_resid_post|(?:.*\.)?layers[._](\d+)(?:\.output)?|resid_post_layer_(\d+)")
_PRE = re.compile(r"blocks\.(\d+)\.hook_resid_pre|resid_pre_layer_(\d+)")


def residual_layer(hook: str | None) -> int | None:
    """The decoder block after which `hook` reads the residual stream; None where it reads something else."""
    if not hook:
        return None
    if match := _POST.fullmatch(hook):
        return int(next(group for group in match.groups() if group))
    if (match := _PRE.fullmatch(hook)) and (layer := int(match[1] or match[2])) > 0:
        return layer - 1
    return None


def hook_notes(hook: str | None) -> tuple[str, ...]:
    """A warning for an SAE that was trained somewhere else than on a residual stream after a block."""
    if not hook or residual_layer(hook) is not None:
        return ()
    return (f"trained at `{hook}`, which isn't the residual stream after a decoder block",)
