"""`POST /v1/lexicons/match`: words tried on a text."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app import migrations
from app.auth import create_key
from app.db import get_engine, writing
from app.main import create_app
from app.settings import get_settings


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("TALKMILL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TALKMILL_BROKER_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    migrations.upgrade()
    with writing() as session:
        _, token = create_key(session, "test", ("read", "curate"))
    yield TestClient(create_app(), headers={"Authorization": f"Bearer {token}"}, raise_server_exceptions=False)
    get_engine().dispose()
    get_settings.cache_clear()


def test_hits_are_told_with_their_place_in_the_text_as_sent(client: TestClient) -> None:
    body = {"words": ["fuck", "發票"], "allow": ["电子发票"], "options": {"skip": ".", "mask": "#", "detect": ["ipv4"]}}
    answer = client.post("/v1/lexicons/match", json={**body, "text": "😀Ｆ.uck，代开发票、电子发票 10.0.0.1"}).json()
    assert answer == {
        "matches": [
            {"word": "fuck", "text": "Ｆ.uck", "start": 1, "end": 6, "category": None},
            {"word": "發票", "text": "发票", "start": 9, "end": 11, "category": None},
            {"word": "10.0.0.1", "text": "10.0.0.1", "start": 17, "end": 25, "category": "ipv4"},
        ],
        "masked": "😀#####，代开##、电子发票 ########",
    }


def test_a_lexicon_is_used_by_id(client: TestClient) -> None:
    made = client.post("/v1/lexicons", json={"name": "rude", "words": ["王八蛋"], "category": "abuse"}).json()
    answer = client.post("/v1/lexicons/match", json={"lexicon": made["id"], "text": "你个王八蛋"}).json()
    assert [(hit["text"], hit["category"]) for hit in answer["matches"]] == [("王八蛋", "abuse")]
    assert answer["masked"] == "你个***"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"text": "a"}, 422, "words"),
        ({"words": ["a"], "lexicon": "lex-" + "0" * 24, "text": "a"}, 422, "words"),
        ({"lexicon": "lex-" + "0" * 24, "text": "a"}, 404, None),
        ({"words": ["a"], "text": "a", "options": {"mask": "##"}}, 422, "options.mask"),
        ({"words": ["a"], "text": "a", "options": {"speed": 1}}, 422, "options.speed"),
        ({"words": ["a"]}, 422, "text"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, object], status: int, param: str | None) -> None:
    answer = client.post("/v1/lexicons/match", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
