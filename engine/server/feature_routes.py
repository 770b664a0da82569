"""GET /v1/steering/features and what lies below it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from tiller.engine.spec import Name

from .reading import read_text
from .routes import AServer, ErrorBody, missing

MAX_TEXT_CHARS = 16_384
SAE = Annotated[Name, Query(description="An SAE of GET /v1/steering.")]
Num = Annotated[int, Query(ge=1, le=128, description="How many features to list.")]
router = APIRouter(
    prefix="/v1/steering/features",
    tags=["steering"],
    responses={status: {"model": ErrorBody} for status in (400, 401)},
)


@router.get("")
async def features_of_text(
    server: AServer,
    text: Annotated[str, Query(min_length=1, max_length=MAX_TEXT_CHARS)],
    sae: SAE = "default",
    top: Num = 10,
    skip_first: Annotated[int, Query(ge=0, le=1024, description="Leading tokens left out: sinks say nothing.")] = 1,
) -> dict[str, Any]:
    """The most active features of a text: over all of it, and at each token."""
    return await read_text(server, text, sae, top, skip_first)


@router.get("/search")
async def search_features(
    server: AServer, q: Annotated[str, Query(min_length=1, max_length=200)], sae: SAE = "default", top: Num = 10
) -> dict[str, Any]:
    """Features by the words of their label; none where the config has no labels."""
    return {"object": "list", "data": server.features.search(q, sae, top)}


@router.get("/{id}", responses={404: missing[404]})
async def describe_feature(server: AServer, id: Annotated[int, Path(ge=0)], sae: SAE = "default") -> dict[str, Any]:
    """One feature as its weights show it."""
    return await server.features.describe(sae, id)
