"""The page at /steering: static files that know nothing; what they show comes from the API, under its keys."""

from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in TYPES}
router = APIRouter(include_in_schema=False)


@router.get("/steering")
async def index() -> Response:
    return _file("index.html")


@router.get("/steering/{name}")
async def part(name: str) -> Response:
    if name not in FILES:
        raise HTTPException(404)
    return _file(name)


def _file(name: str) -> Response:
    return Response(FILES[name], media_type=TYPES[Path(name).suffix], headers=HEADERS)
