"""GET /v1/steering and what lies below it: what this server can do, its profiles and its vectors."""

from importlib.metadata import version
from typing import Annotated, Any, get_args

import torch
from fastapi import APIRouter, Depends, Form, Header, Path, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from tiller.engine import compat
from tiller.engine.admission import NOT_STEERED
from tiller.engine.config import SamplingDefaults
from tiller.engine.errors import SpecError
from tiller.engine.spec import MAX_NAME, NAME_PATTERN, FeatureEdit, Name, Unit

from .generation import MAX_READ_VALUES
from .intake import MAX_STEERING_BYTES
from .middleware import max_body_bytes
from .server import Server
from .vectors import MAX_REGISTERED


class ProfileBody(BaseModel):
    """A profile to register."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    steering: Annotated[dict[str, Any], Field(description="A `steering` object, as a request has it.")]
    defaults: SamplingDefaults = SamplingDefaults()


class ErrorBody(BaseModel):
    """An error in OpenAI's shape."""

    error: dict[str, Any]


def current(request: Request) -> Server:
    """The Server behind a request. Raises SpecError where the engine does not steer."""
    server = getattr(request.app.state.engine_client, "tiller", None)
    if server is None:
        raise SpecError(NOT_STEERED, "steering")
    return server


def changing(
    server: Annotated[Server, Depends(current)],
    key: Annotated[str | None, Header(alias="X-Steering-Key", description="The --steering-api-key.")] = None,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Server:
    """The Server, for a request that may change it: the key in its own header, or as the bearer token."""
    bearer = (authorization or "").removeprefix("Bearer ")
    server.check_key(key if key is not None else bearer)
    return server


AServer = Annotated[Server, Depends(current)]
ChangingServer = Annotated[Server, Depends(changing)]
NamePath = Annotated[str, Path(pattern=NAME_PATTERN, max_length=MAX_NAME)]
router = APIRouter(
    prefix="/v1/steering",
    tags=["steering"],
    responses={status: {"model": ErrorBody} for status in (400, 401)},
)
missing: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody}, 409: {"model": ErrorBody}}
taken: dict[int | str, dict[str, Any]] = {409: {"model": ErrorBody}, 413: {"model": ErrorBody}}


@router.get("")
async def capabilities(server: AServer) -> dict[str, Any]:
    """What this server can steer, and within which limits."""
    plan = server.plan
    return {
        "object": "steering",
        "model": server.engine.vllm_config.model_config.model,
        "served_model_names": server.served_names,
        "runner": server.workers[0]["runner"],
        "layers": plan.layers,
        "saes": {
            name: {
                "layer": sae.layer,
                "site": sae.site,
                "source": sae.source,
                "doubts": sae.doubts,
                "d_sae": sae.d_sae,
                "d_model": sae.d_model,
                "activation": sae.activation,
                "format": sae.format,
                "num_labels": server.features.num_labels(name),
            }
            for name, sae in plan.saes.items()
        },
        "vectors": {name: {"layer": vector.layer, "norm": vector.norm} for name, vector in plan.named_vectors.items()},
        "profiles": server.profiles.names(),
        "skipped": [{"file": file, "reason": reason} for file, reason in server.skipped.items()],
        "ops": list(get_args(FeatureEdit.model_fields["op"].annotation)),
        "units": list(get_args(Unit)),
        "limits": {
            "max_edits": plan.max_edits,
            "max_projections": plan.max_projections,
            "max_top": plan.max_top,
            "max_vectors": plan.max_vectors,
            "max_registered_vectors": MAX_REGISTERED,
            "max_read_values": MAX_READ_VALUES,
            "max_steering_bytes": MAX_STEERING_BYTES,
            "max_body_bytes": max_body_bytes(server.d_model),
        },
        "versions": {"tiller": version("vllm-tiller"), "vllm": compat.vllm_version(), "torch": torch.__version__},
    }


@router.get("/profiles")
async def list_profiles(server: AServer) -> dict[str, Any]:
    names = server.profiles.names()
    return {"object": "list", "data": [server.profiles.get(name).to_dict() for name in names]}


@router.post("/profiles", status_code=201, responses=taken)
async def register_profile(body: ProfileBody, server: ChangingServer) -> dict[str, Any]:
    return server.profiles.register(body.name, body.steering, body.defaults).to_dict()


@router.delete("/profiles/{name}", responses=missing)
async def delete_profile(name: NamePath, server: ChangingServer) -> dict[str, Any]:
    server.profiles.delete(name)
    return {"name": name, "object": "steering.profile", "deleted": True}


@router.get("/vectors")
async def list_vectors(server: AServer) -> dict[str, Any]:
    return {"object": "list", "data": [_vector(server, name) for name in sorted(server.plan.named_vectors)]}


@router.post("/vectors", status_code=201, responses=taken)
async def register_vector(
    name: Annotated[Name, Form()],
    file: Annotated[UploadFile, "A safetensors file with one tensor [d_model], float32, float16 or bfloat16."],
    server: ChangingServer,
    request: Request,
    layer: Annotated[int | None, Form(ge=0, description="Needed unless the file's metadata say it.")] = None,
) -> dict[str, Any]:
    form = await request.form()
    repeated = next((key for key in form if len(form.getlist(key)) > 1), None)
    if repeated is not None:
        raise SpecError("given twice in one form", repeated)
    await server.vectors.register(name, layer, await file.read())
    return _vector(server, name)


@router.delete("/vectors/{name}", responses=missing)
async def delete_vector(name: NamePath, server: ChangingServer) -> dict[str, Any]:
    await server.vectors.delete(name)
    return {"name": name, "object": "steering.vector", "deleted": True}


def _vector(server: Server, name: str) -> dict[str, Any]:
    entry = server.plan.vectors[name]
    source = "runtime" if server.vectors.is_runtime(name) else "config"
    return {"name": name, "layer": entry.layer, "norm": entry.norm, "version": entry.version, "source": source}
