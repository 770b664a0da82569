"""The address that a server will listen on, tried before anything slow starts."""

import errno
import socket
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from typing import Any

from tiller.engine.errors import ConfigError


def require_free(arguments: Any) -> None:
    """Binds what vLLM's server will bind, as it does, and lets go of it.

    Raises ConfigError naming the flag where that fails.
    """
    if arguments.uds:
        _try_path(Path(arguments.uds))
    else:
        _try_port(arguments.host or "", arguments.port)


def _try_port(host: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} given; a port is a number from 0 to 65535", "--port")
    with socket.socket(_family(host), socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except socket.gaierror as error:
            raise ConfigError(f"{host} is no address of this machine: {error.strerror}", "--host") from error
        except OSError as error:
            raise _refusal(error, host, port) from error


def _family(host: str) -> socket.AddressFamily:
    try:
        IPv6Address(host.partition("%")[0])
    except AddressValueError:
        return socket.AF_INET
    return socket.AF_INET6


def _refusal(error: OSError, host: str, port: int) -> ConfigError:
    where = host or "0.0.0.0"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"{port} is in use on {where}; give another one, or end what listens there", "--port")
    if error.errno == errno.EACCES:
        return ConfigError(f"you have no permission to listen on {port}; give one above 1023", "--port")
    return ConfigError(
        f"{where}:{port} can't be listened on: {error.strerror}; give an address of this machine", "--host"
    )


def _try_path(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.bind(str(path))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"{path} is in use; give another path, or remove it if nothing listens", "--uds"
                ) from error
            raise ConfigError(f"{path} can't be made: {error.strerror or error}; give another path", "--uds") from error
    path.unlink()
