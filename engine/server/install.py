"""Where the server's parts are put into vLLM; runs in a serving process just before its engine starts."""

from typing import Any

from starlette.exceptions import HTTPException as StarletteHTTPException

from tiller.engine import compat
from tiller.engine.errors import TillerError

from . import delivery, feature_routes, generation, page_routes, problems, routes
from .middleware import SteeringMiddleware
from .server import Server, server_of
from .settings import Settings


def install() -> None:
    """Safe to call again."""
    Settings.from_env()  # what is wrong with it is said before an engine starts
    problems.set_up_log()
    compat.wrap_async_engine(server_of, generation.generate)
    compat.wrap_handlers(delivery.answer)
    compat.wrap_app(extend, ready)
    compat.wrap_model_list(profile_models)


def extend(app: Any) -> None:
    """Our routes, the page, and middleware; innermost, behind vLLM's authentication."""
    from starlette.middleware import Middleware

    for router in (routes.router, feature_routes.router, page_routes.router):
        app.include_router(router)
    app.add_exception_handler(TillerError, refused)
    app.add_exception_handler(StarletteHTTPException, unreadable)
    app.user_middleware.append(Middleware(SteeringMiddleware))
    if app.middleware_stack is not None:  # already assembled by vLLM's container support
        app.middleware_stack = app.build_middleware_stack()


async def refused(request: Any, error: TillerError) -> Any:
    """The answer to what one of our routes refuses."""
    from starlette.responses import JSONResponse

    body = problems.refusal(error, request.url.path)
    return JSONResponse(body.model_dump(), body.error.code)


async def unreadable(request: Any, error: Any) -> Any:
    """OpenAI's shape where FastAPI gives up on a body, such as one nested too deeply; the rest as it was."""
    from fastapi.exception_handlers import http_exception_handler

    if request.app.state.engine_client.tiller is None or error.status_code != 400:
        return await http_exception_handler(request, error)
    return await refused(request, TillerError(str(error.detail), "body"))


async def ready(engine: Any, state: Any) -> None:
    """Before the first request."""
    server: Server | None = engine.tiller
    if server is not None:
        await server.start([path.name for path in state.openai_serving_models.base_model_paths])


def profile_models(engine: Any) -> list[str]:
    """`<served>:<profile>` for every profile."""
    server: Server | None = getattr(engine, "tiller", None)
    if server is None:
        return []
    return [f"{served}:{profile}" for served in server.served_names for profile in server.profiles.names()]
