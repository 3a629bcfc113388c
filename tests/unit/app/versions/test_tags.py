"""Statistics of a version's tags, and where its users' tags come from."""

import csv
import io
import json
from typing import Any

import polars as pl
import pytest
from versions_in_process import Service

from app.datasets import token_counts
from app.datasets.service import open_manifest
from app.db import reading
from app.store import get_store
from curation import statistics
from trainer.dialogues import load_chat_tokenizer


def test_tokens_are_counted_once_and_kept(
    service: Service, version: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/versions/{version['id']}/tags/statistics"
    first = service.get(path, by="gender", metric="tokens")
    rows = pl.concat([pl.read_parquet(get_store().path(part)) for part in _segments(version["id"])])
    tokenizer = load_chat_tokenizer(first["tokenizer"])
    whole = rows.filter(pl.col("window") == 0)["messages"].to_list()
    assert first["total"] >= sum(tokenizer.count(message["content"]) for said in whole for message in said) > 0

    token_counts._counts.cache_clear()  # as after a restart
    monkeypatch.setattr(statistics, "_with_tokens", None)
    assert service.get(path, by="gender", metric="tokens") == first
    assert service.get(path, by="province", metric="tokens", where="gender:female")["total"] == sum(
        row["value"] for row in first["rows"] if row["gender"] == "female"
    )


def _segments(version_id: str) -> list[str]:
    with reading() as session:
        _, manifest = open_manifest(session, version_id)
    return [part["sha256"] for part in manifest["segments"]]


def test_users_tell_where_their_tags_come_from(service: Service) -> None:
    talks = [
        ("a", "我在成都上班", {}),
        ("b", "你好", {"gender": "女"}),
        ("a", "我住在北京", {}),
        (None, "我是男的", {}),
    ]
    said = [
        {
            "id": f"t{number}",
            "user": {**({"id": user} if user else {}), **known},
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "好的"}],
        }
        for number, (user, text, known) in enumerate(talks)
    ]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in said).encode()
    version = service.version(content, {"operators": [{"kind": "tag_users"}]})
    path = f"/v1/versions/{version['id']}/tags/users"
    page = service.get(path, limit=1)
    assert page["has_more"]
    (user,) = page["data"]
    assert (user["user"], user["conversations"]) == ("a", 2)
    assert (user["tags"]["city"]["value"], user["tags"]["city"]["conversation_id"]) == ("北京市", "t2")
    assert [(lost["value"], lost["conversation_id"]) for lost in user["tags"]["city"]["lost"]] == [("成都市", "t0")]
    assert [other["user"] for other in service.get(path, after="a")["data"]] == ["b"]
    assert [other["user"] for other in service.get(path, conflicts=True)["data"]] == ["a"]
    assert service.get(f"/v1/versions/{version['id']}/tags/statistics", by="city", metric="users")["total"] == 3


def test_statistics_as_csv_say_the_same(service: Service, version: dict[str, Any]) -> None:
    asked = {"by": ["age_band", "gender"], "where": ["province:四川省", "province:unknown"], "metric": "turns"}
    path = f"/v1/versions/{version['id']}/tags/statistics"
    told = service.get(path, **asked)
    answer = service.client.get(path, params={**asked, "format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) > 1
    assert [(row["age_band"], row["gender"], int(row["value"]), float(row["share"])) for row in rows] == [
        (row["age_band"], row["gender"], row["value"], pytest.approx(row["share"])) for row in told["rows"]
    ]
