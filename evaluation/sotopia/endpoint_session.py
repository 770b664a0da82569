"""The connections to an endpoint: headers with its key, and the proxy on the way."""

import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from .ask import EndpointError
from .settings import EndpointConfig

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 4.0  # servers close idle connections after 5 s or more; a request should not meet that moment
LOOPBACK = ("127.", "localhost", "::1")


def open_session(headers: dict[str, str], timeout: float) -> aiohttp.ClientSession:
    """timeout: seconds for one answer."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        skip_auto_headers=["Accept-Encoding", "User-Agent"],
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
    )


def headers_of(config: EndpointConfig, name: str) -> dict[str, str]:
    """Raises EndpointError where the key's variable is empty."""
    headers = {"Content-Type": "application/json", "User-Agent": "vllm-tiller"}
    if config.key_env is None:
        return headers
    key = os.environ.get(config.key_env, "").strip()
    if not key:
        raise EndpointError(f"its key is expected in ${config.key_env}, which is not set", f"endpoint {name}")
    return {**headers, "Authorization": f"Bearer {key}"}


def proxy_of(url: str) -> str | None:
    """The proxy of the environment for a URL; none on the loopback interface, whatever the environment says."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.startswith(LOOPBACK) or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)
