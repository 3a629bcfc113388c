"""The blob store's laws, in a folder and in a bucket; and what only a bucket has: a cache, outages."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from signal import SIGSTOP
from typing import Any

import pytest
from servers import Server, s3, s3_client

from app.settings import get_settings
from app.store import CHUNK_BYTES, LocalStore, Store, StoreUnavailableError, get_store
from app.store.cache import BlobCache
from app.store.s3 import PART_BYTES, S3Store

ROOT = Path(__file__).parents[3]
GIB = 2**30
LARGE = os.urandom(CHUNK_BYTES) * 17 + b"end"
"""Of several parts, the last of them short."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3(tmp_path_factory.mktemp("s3") / "server") as server:
        yield server


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Place"]:
    """A new store of the kind that the test is parametrized with; by default of both."""
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path / "data"))
    if request.param == "bucket":
        server: Server = request.getfixturevalue("server")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TALKMILL_STORE_URL", f"{server.env['TALKMILL_STORE_URL']}/{tmp_path.name}")
        get_settings.cache_clear()
        with closing(s3_client(server.env)) as client:
            yield Bucket(get_store(), client, *(get_settings().bucket or ()))
    else:
        monkeypatch.setenv("TALKMILL_STORE_URL", "")
        get_settings.cache_clear()
        yield Place(get_store())
    get_settings.cache_clear()


both = pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)
bucket = pytest.mark.parametrize("place", ["bucket"], indirect=True)


class Place:
    """A store and a look at it from outside."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def names(self) -> list[str]:
        """All that lies in the store, unfinished things too."""
        folder = get_settings().store_dir
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Bucket(Place):
    def __init__(self, store: Store, client: Any, name: str, prefix: str) -> None:
        super().__init__(store)
        self.client, self.name, self.prefix = client, name, prefix

    def names(self) -> list[str]:
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix=f"{self.prefix}/").get("Contents", [])
        return sorted([item["Key"].removeprefix(f"{self.prefix}/") for item in listed] + self.uploads())

    def uploads(self) -> list[str]:
        """Multipart uploads that were begun and neither completed nor aborted."""
        begun = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads") or []
        return [upload["Key"] for upload in begun if upload["Key"].startswith(f"{self.prefix}/")]


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"


@both
@pytest.mark.parametrize("content", [b"", b"a", LARGE[:PART_BYTES], LARGE[: PART_BYTES + 1], LARGE], ids=len)
def test_a_blob_comes_back_as_it_went_in(place: Place, content: bytes) -> None:
    blob = place.store.put(io.BytesIO(content))
    assert (blob.sha256, blob.bytes) == (_name(content), len(content))
    assert place.store.path(blob.sha256).read_bytes() == content
    chunks = list(place.store.chunks(blob.sha256))
    assert b"".join(chunks) == content
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
    assert place.names() == [_key(blob.sha256)]


@both
def test_the_same_content_is_stored_once_however_many_store_it_at_once(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    with ThreadPoolExecutor(6) as pool:
        put = [pool.submit(place.store.put, io.BytesIO(LARGE)) for _ in range(3)]
        put += [pool.submit(place.store.put_file, path) for _ in range(3)]
    assert {future.result().sha256 for future in put} == {_name(LARGE)}
    assert place.names() == [_key(_name(LARGE))]
    assert place.store.path(_name(LARGE)).read_bytes() == LARGE


@both
def test_putting_starts_where_the_source_stands(place: Place) -> None:
    source = io.BytesIO(b"read already, to be kept")
    source.seek(14)
    assert place.store.put(source).sha256 == _name(b"to be kept")


class Breaks(io.RawIOBase):
    """A source that fails after its content, as an upload whose client goes away."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        if chunk := self._content.read(size):
            return chunk
        raise ConnectionResetError("the client went away")


@both
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_an_aborted_put_leaves_nothing(place: Place, content: bytes) -> None:
    with pytest.raises(ConnectionResetError, match="the client went away"):
        place.store.put(Breaks(content))  # type: ignore[arg-type]
    assert place.names() == []


@both
def test_a_killed_put_leaves_no_blob_and_hinders_none(place: Place) -> None:
    program = "import sys; from app.store import get_store; get_store().put(sys.stdin.buffer)"
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(LARGE)
    child.stdin.flush()
    while not place.names():  # until it has begun to write
        assert child.poll() is None
        time.sleep(0.05)
    child.kill()
    child.wait()
    child.stdin.close()
    assert all("incoming/" in name for name in place.names())
    with pytest.raises(FileNotFoundError):
        place.store.path(_name(LARGE))
    assert place.store.put(io.BytesIO(LARGE)).sha256 == _name(LARGE)
    assert place.store.path(_name(LARGE)).read_bytes() == LARGE


@both
@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (5, None), (CHUNK_BYTES - 1, CHUNK_BYTES + 1), (PART_BYTES - 7, PART_BYTES + 9), (3, 3), (9, 4),
     (len(LARGE) - 1, None), (len(LARGE), None), (len(LARGE) + 5, len(LARGE) + 9), (7, len(LARGE) + 99)],
)  # fmt: skip
def test_a_range_is_the_slice_of_the_same_numbers(place: Place, start: int, end: int | None) -> None:
    blob = place.store.put(io.BytesIO(LARGE))
    assert b"".join(place.store.chunks(blob.sha256, start, end)) == LARGE[start:end]


@both
def test_what_is_not_there_is_told_at_once(place: Place, tmp_path: Path) -> None:
    absent = _name(b"never stored")
    for ask in (place.store.path, place.store.chunks, lambda name: place.store.materialise(name, tmp_path / "copy")):
        with pytest.raises(FileNotFoundError, match=absent):
            ask(absent)
        for outside in ("../../etc/passwd", absent[:-1], absent.upper()):
            with pytest.raises(ValueError, match="64 hexadecimal digits"):
                ask(outside)
    assert not (tmp_path / "copy").exists()
    blob = place.store.put(io.BytesIO(b"there"))
    with pytest.raises(ValueError, match="a range starts"):
        place.store.chunks(blob.sha256, -1)


@both
def test_a_blob_appears_where_it_is_wanted_and_replaces_what_was_there(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "down" / "file"
    for content in (b"first", b"second", b"second"):
        place.store.materialise(place.store.put(io.BytesIO(content)).sha256, target)
        assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["file"]


@both
def test_memory_does_not_grow_with_the_blob(place: Place) -> None:
    program = """if True:
        import io, pathlib, sys
        from app.store import get_store
        class Zeros(io.RawIOBase):
            left = int(sys.argv[1])
            def read(self, size):
                size = min(size, self.left)
                self.left -= size
                return bytes(size)
        store = get_store()
        blob = store.put(Zeros())
        assert sum(map(len, store.chunks(blob.sha256))) == int(sys.argv[1])
        # Not getrusage's, which begins with what the parent had when it started this process.
        print(int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024)"""

    def peak(size: int) -> int:
        command = [sys.executable, "-c", program, str(size)]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)

    assert peak(200 * CHUNK_BYTES) - peak(1) < 80 * CHUNK_BYTES


@both
def test_a_store_that_works_says_so(place: Place) -> None:
    place.store.check()


def test_a_folder_that_is_gone_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreUnavailableError):
        store.check()


@bucket
def test_what_is_there_is_not_uploaded_again(place: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    sha256 = place.store.put_file(path).sha256
    key = f"{place.prefix}/{_key(sha256)}"
    place.client.put_object(Bucket=place.name, Key=key, Body=LARGE, Metadata={"mark": "untouched"})
    place.store.put_file(path)
    place.store.put(io.BytesIO(LARGE))
    assert place.client.head_object(Bucket=place.name, Key=key)["Metadata"] == {"mark": "untouched"}
    place.client.put_object(Bucket=place.name, Key=key, Body=b"cut short", Metadata={"mark": "broken"})
    place.store.put_file(path)
    assert b"".join(place.store.chunks(sha256)) == LARGE


@bucket
def test_bytes_that_are_not_what_their_name_says_are_never_used(place: Bucket) -> None:
    sha256 = place.store.put(io.BytesIO(b"true")).sha256
    place.client.put_object(Bucket=place.name, Key=f"{place.prefix}/{_key(sha256)}", Body=b"lies")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="other bytes than its name says"):
            place.store.path(sha256)
    assert list(get_settings().cache_dir.iterdir()) == []


@bucket
def test_the_cache_answers_while_the_bucket_forgets(place: Bucket) -> None:
    sha256 = place.store.put(io.BytesIO(b"seen")).sha256
    assert place.store.path(sha256).read_bytes() == b"seen"
    place.client.delete_object(Bucket=place.name, Key=f"{place.prefix}/{_key(sha256)}")
    assert place.store.path(sha256).read_bytes() == b"seen"
    with pytest.raises(FileNotFoundError):
        place.store.chunks(sha256)


def _age(path: Path, minutes: float) -> None:
    then = time.time() - 60 * minutes
    os.utime(path, (then, then))


def test_the_cache_drops_what_was_asked_for_least_recently_but_nothing_in_use(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, max_bytes=1000)
    contents = [bytes([letter]) * 300 for letter in b"abcdef"]
    old, older, oldest = (cache.add(_name(content), [content]) for content in contents[:3])
    (tmp_path / ".killed").write_bytes(b"x" * 50)
    for minutes, path in ((20, old), (30, older), (40, oldest), (50, tmp_path / ".killed")):
        _age(path, minutes)
    with oldest.open("rb") as reader:
        cache.add(_name(contents[3]), [contents[3]])
        assert sorted(tmp_path.iterdir()) == sorted([old, older, tmp_path / _name(contents[3])])
        assert reader.read() == contents[2], "who has it open reads on"
    assert cache.find(_name(contents[2])) is None
    assert cache.find(_name(contents[1])) == older, "asking for it makes it the most recent"
    cache.add(_name(contents[4]), [contents[4]])
    assert not old.exists()
    cache.add(_name(contents[5]), [contents[5]])
    assert len(list(tmp_path.iterdir())) == 4, "over its bound, since all four may be in use"


def test_a_bucket_that_is_away_or_missing_is_noticed_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3(tmp_path / "server") as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        missing = S3Store("no-such-bucket", "", BlobCache(tmp_path / "cache", GIB))
        with pytest.raises(StoreUnavailableError):
            missing.check()
        monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
        get_settings.cache_clear()
        store = get_store()
        store.check()
        for hinder in (lambda: server.child.send_signal(SIGSTOP), server.stop):  # silent, then gone
            hinder()
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                store.check()
            assert time.monotonic() - started < 10
    get_settings.cache_clear()
