"""Blind reviews: what raters see and never see, the counting, and replies that the workers generate."""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_in_process import do_pending_work, service_in_process
from sqlalchemy import select
from tiny_base import make_tiny_base

from app.auth import create_key
from app.db import reading, writing
from app.files.repository import raw_segments
from app.models import RegisteredModel, Review, ReviewItem, Work, new_id
from app.reviews.service import Answered, add_items, create_from_replies
from app.store import get_store
from app.training import chat
from curation.prompts import Prompt, draw_prompts
from worker.tasks import do

LEFT, RIGHT = "the cautious model", "the bold model"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("data")
    with service_in_process({"TALKMILL_DATA_DIR": str(folder), "TALKMILL_BROKER_URL": "redis://127.0.0.1:1/0"}) as http:
        yield http
        chat.generators().close()
        chat.generators.cache_clear()


def review_of(num_pairs: int, seed: int = 1) -> str:
    """A review whose replies say which side they are, as no real ones would."""
    pairs = [
        Answered(Prompt(f"c{n}", ({"role": "user", "content": f"q{n}"},), f"r{n}"), f"left {n}", f"right {n}")
        for n in range(num_pairs)
    ]
    with writing() as session:
        return create_from_replies(session, name="lengths", left=LEFT, right=RIGHT, pairs=pairs, seed=seed).id


def ask(client: TestClient, path: str, **params: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/reviews/{path}", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def judge(client: TestClient, review: str, item: str, rater: str, choice: str, comment: str | None = None) -> Any:
    body = {"item": item, "choice": choice, "rater": rater, "comment": comment}
    return client.post(f"/v1/reviews/{review}/judgements", json=body)


def rate(client: TestClient, review: str, rater: str, opinions: dict[int, str]) -> list[dict[str, Any]]:
    """Judges every pair by an opinion on each conversation: left, right, tie or both_bad; returns the pairs as shown."""
    shown = []
    while not (pair := ask(client, f"{review}/next", rater=rater))["done"]:
        opinion = opinions[int(pair["messages"][-1]["content"].removeprefix("q"))]
        sides = {pair["a"].split()[0]: "a", pair["b"].split()[0]: "b"}
        assert judge(client, review, pair["item"], rater, sides.get(opinion, opinion)).status_code == 200
        shown.append(pair)
    return shown


def alpha(votes: list[tuple[str, str]]) -> float:
    """Krippendorff's nominal alpha of two raters who judged everything, from its definition."""
    counts = Counter(itertools.chain(*votes))
    n = sum(counts.values())
    expected = 1 - sum(count * (count - 1) for count in counts.values()) / (n * (n - 1))
    return 1 - (sum(one != other for one, other in votes) / len(votes)) / expected


def ends_of_the_score_test(interval: list[float], wins: int, count: int) -> None:
    """Wilson's interval holds the shares that a score test at 5 % does not reject: its ends are just not rejected."""
    z = NormalDist().inv_cdf(0.975)
    for end in interval:
        assert abs(wins / count - end) == pytest.approx(z * math.sqrt(end * (1 - end) / count))
    assert interval[0] < wins / count < interval[1]


def test_twenty_pairs_by_two_raters(client: TestClient) -> None:
    ann = {n: "left" if n < 13 else "right" if n < 17 else "tie" if n < 19 else "both_bad" for n in range(20)}
    bob = {n: "left" if n < 11 else "right" if n < 18 else "tie" for n in range(20)}
    review = review_of(20)
    shown = rate(client, review, "ann", ann)
    assert rate(client, review, "bob", bob) == shown  # in the one stored order

    found = ask(client, f"{review}/result")
    assert (found["left"], found["right"], found["complete"], found["pairs_judged"]) == (LEFT, RIGHT, True, 20)
    assert (found["wins"], found["ties"], found["both_bad"]) == ({"left": 24, "right": 11}, 4, 1)
    assert found["win_rate"] == pytest.approx(24 / 35)
    ends_of_the_score_test(found["win_rate_interval"], 24, 35)
    assert found["by_pair"]["wins"] == {"left": 11, "right": 4}
    assert (found["by_pair"]["ties"], found["by_pair"]["both_bad"]) == (5, 0)
    ends_of_the_score_test(found["by_pair"]["win_rate_interval"], 11, 15)
    votes = [(ann[n], bob[n]) for n in range(20)]
    assert found["agreement"]["share"] == sum(one == other for one, other in votes) / 20
    assert found["agreement"]["krippendorff_alpha"] == pytest.approx(alpha(votes))


def test_nothing_tells_the_sides_before_the_end(client: TestClient) -> None:
    review = review_of(6)
    pair = ask(client, f"{review}/next", rater="ann")
    assert set(pair) == {"object", "review", "item", "done", "number", "total", "messages", "a", "b"}
    told = [judge(client, review, pair["item"], "ann", "a").text, json.dumps(pair)]
    found = ask(client, f"{review}/result")
    assert found["judgements"] == 1
    assert found["waiting_for"] == {"ann": 5}
    assert all(found[name] is None for name in ("wins", "win_rate", "win_rate_interval", "by_pair", "agreement"))
    assert not [text for text in told if LEFT in text or RIGHT in text or "swapped" in text]
    refused = client.get(f"/v1/reviews/{review}/export")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "still_blind")

    rate(client, review, "ann", dict.fromkeys(range(6), "tie"))
    assert ask(client, f"{review}/result")["wins"] is not None
    pair = ask(client, f"{review}/next", rater="bob")
    judge(client, review, pair["item"], "bob", "b")
    assert ask(client, f"{review}/result")["wins"] is None  # since bob is still blind
    assert client.post(f"/v1/reviews/{review}/close").json()["judging"]["complete"] is True
    found = ask(client, f"{review}/result")
    assert found["wins"]["left"] + found["wins"]["right"] + found["ties"] == found["judgements"] == 7
    assert ask(client, f"{review}/next", rater="bob")["done"] is True
    assert judge(client, review, pair["item"], "bob", "a").json()["error"]["code"] == "closed"


def test_order_and_sides_are_stored_and_follow_from_the_seed(client: TestClient) -> None:
    def stored(review: str) -> list[tuple[str, bool]]:
        with reading() as session:
            mine = select(ReviewItem).where(ReviewItem.review_id == review).order_by(ReviewItem.ordinal)
            return [(item.conversation_id, item.swapped) for item in session.scalars(mine)]

    first, again, other = (stored(review_of(20, seed)) for seed in (3, 3, 4))
    assert first == again != other
    assert [name for name, _ in first] != sorted(name for name, _ in first)
    assert sum(swapped for _, swapped in first) == 10
    assert sorted(first) != sorted(other)


def test_raters_come_back_and_change_their_minds_while_they_are_blind(client: TestClient) -> None:
    review = review_of(3)
    pairs = []
    for left in (2, 1, 0):
        pairs.append(pair := ask(client, f"{review}/next", rater="ann"))
        assert ask(client, f"{review}/next", rater="ann") == pair  # nothing is lost by looking twice
        assert pair["number"] == 3 - left
        kept = judge(client, review, pair["item"], " ann ", "a", "first thought").json()
        assert (kept["left_to_judge"], kept["rater"]) == (left, "ann")
        if left:
            assert judge(client, review, pair["item"], "ann", "both_bad").json()["left_to_judge"] == left
    assert judge(client, review, pairs[-1]["item"], "ann", "a", "first thought").status_code == 200
    refused = judge(client, review, pairs[0]["item"], "ann", "a")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "already_judged")
    assert ask(client, f"{review}/result")["both_bad"] == 2


def test_the_export_names_the_sides(client: TestClient) -> None:
    review = review_of(4)
    rate(client, review, "=ann()", {0: "left", 1: "right", 2: "tie", 3: "both_bad"})
    rows = [json.loads(line) for line in client.get(f"/v1/reviews/{review}/export").text.splitlines()]
    assert {row["conversation_id"]: row["winner"] for row in rows} == {
        "c0": "left",
        "c1": "right",
        "c2": "tie",
        "c3": "both_bad",
    }
    for row in rows:
        assert row["left"].split() == ["left", row["conversation_id"][1:]]
        if row["choice"] in "ab":
            assert (row["choice"] == "a") == (row["winner"] == row["shown_as_a"])
    table = list(csv.DictReader(io.StringIO(client.get(f"/v1/reviews/{review}/export", params={"format": "csv"}).text)))
    assert {row["rater"] for row in table} == {"'=ann()"}
    assert [json.loads(row["messages"]) for row in table] == [row["messages"] for row in rows]


def test_raters_who_agree_on_everything_or_prefer_nothing(client: TestClient) -> None:
    review = review_of(4)
    for rater in ("ann", "bob"):
        rate(client, review, rater, dict.fromkeys(range(4), "tie"))
    found = ask(client, f"{review}/result")
    assert (found["win_rate"], found["win_rate_interval"], found["by_pair"]["win_rate"]) == (None, None, None)
    assert (found["agreement"]["share"], found["agreement"]["krippendorff_alpha"]) == (1.0, None)


def test_who_may_what(client: TestClient) -> None:
    review = review_of(2)
    with writing() as session:
        reads = {"Authorization": f"Bearer {create_key(session, 'r', ['read'])[1]}"}
    pair = client.get(f"/v1/reviews/{review}/next", params={"rater": "ann"}, headers=reads).json()
    body = {"item": pair["item"], "choice": "a", "rater": "ann"}
    assert client.post(f"/v1/reviews/{review}/judgements", json=body, headers=reads).status_code == 403
    assert client.post(f"/v1/reviews/{review}/close", headers=reads).status_code == 403
    other = ask(client, f"{review_of(2)}/next", rater="ann")
    assert judge(client, review, other["item"], "ann", "a").status_code == 404
    assert judge(client, review, pair["item"], "ann", "left").json()["error"]["param"] == "choice"
    assert client.get(f"/v1/reviews/{review}/next").status_code == 422
    assert client.delete(f"/v1/reviews/{review}").json()["deleted"] is True
    assert client.get(f"/v1/reviews/{review}").status_code == 404


# ---- replies by real models ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bases(client: TestClient, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two random models, registered as `talkmill models add` leaves them."""
    for seed, name in enumerate(("one", "two")):
        folder = make_tiny_base(tmp_path_factory.mktemp("bases") / name, seed=seed, max_positions=4096)
        files = [(path.name, get_store().put_file(path)) for path in sorted(folder.iterdir())]
        rows = [{"name": file, "sha256": blob.sha256, "bytes": blob.bytes} for file, blob in files]
        with writing() as session:
            session.add(RegisteredModel(id=name, files=rows, digest=f"sha256:{name}"))
    return "one", "two"


def upload(client: TestClient, conversations: list[list[dict[str, str]]]) -> str:
    content = b"".join(json.dumps({"messages": turns}).encode() + b"\n" for turns in conversations)
    made = client.post("/v1/files", files={"file": ("p.jsonl", content)}, data={"purpose": "conversations"})
    return str(made.json()["id"])


def test_two_models_answer_and_whoever_takes_over_goes_on(client: TestClient, bases: tuple[str, str]) -> None:
    talks = [
        [{"role": "user", "content": f"我想查一下我的话费 {n}"}, {"role": "assistant", "content": "好的"}]
        for n in range(5)
    ]
    file = upload(client, talks)
    body = {"left": "one", "right": "two", "prompts": file, "samples": 20, "seed": 5, "max_new_tokens": 6}
    made = client.post("/v1/reviews", json=body)
    assert (made.status_code, made.json()["status"]) == (202, "queued"), made.text
    review = made.json()["id"]
    refused = client.get(f"/v1/reviews/{review}/next", params={"rater": "ann"})
    assert (refused.status_code, refused.headers.get("x-should-retry")) == (409, None)
    with reading() as session:
        pending = select(Work.subject, Work.id).where(Work.state == "pending")
        of_subject = dict(session.execute(pending).all())
    do(of_subject[review])  # before the file is there: it waits
    assert ask(client, review)["status"] == "queued"
    do(of_subject[file])
    kept = begun_by_another(review, file)
    do_pending_work()
    made = ask(client, review)
    assert (made["status"], made["progress"]) == ("succeeded", {"replies_done": 10, "replies_total": 10}), made
    assert client.delete(f"/v1/files/{file}").json()["detail"] == f"the file is in use by {review}"

    with reading() as session:
        items = session.scalars(select(ReviewItem).where(ReviewItem.review_id == review)).all()
    assert [item.right for item in items if item.id == kept] == ["said before"]
    asked = {"model": "one", "messages": items[0].messages, "max_tokens": 6, "temperature": 0}
    said = client.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["content"]
    assert said == items[0].left
    assert all(item.left is not None and item.right is not None for item in items)


def begun_by_another(review_id: str, file_id: str) -> str:
    """Leaves a review as a worker does that is killed after the first reply; returns the pair that has it."""
    with writing() as session:
        paths = [get_store().path(segment.sha256) for segment in raw_segments(session, file_id)]
        review = session.get_one(Review, review_id)
        items = add_items(session, review, draw_prompts(paths, review.samples, review.seed))
        review.status, items[2].right = "running", "said before"
        return items[2].id


def test_what_cannot_be_compared(client: TestClient, bases: tuple[str, str]) -> None:
    file = upload(client, [[{"role": "assistant", "content": "喂"}]])
    pairs = client.post("/v1/files", files={"file": ("p.jsonl", b"{}")}, data={"purpose": "pairs"}).json()["id"]
    good = {"left": "one", "right": "two", "prompts": file, "samples": 2, "seed": 0}
    for change, status in (
        ({"left": "three"}, 404), ({"right": new_id("ftjob")}, 404), ({"right": "one:ckpt-step-3"}, 404),
        ({"prompts": new_id("file")}, 404), ({"prompts": new_id("ver")}, 404), ({"prompts": pairs}, 422),
        ({"samples": 0}, 422), ({"seed": -1}, 422), ({"temperature": 3}, 422), ({"judge": "me"}, 422),
    ):  # fmt: skip
        answer = client.post("/v1/reviews", json={**good, **change})
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, *change), answer.text
    cancelled = client.post("/v1/reviews", json=good).json()["id"]
    assert client.delete(f"/v1/reviews/{cancelled}").status_code == 409
    assert client.post(f"/v1/reviews/{cancelled}/cancel").json()["status"] == "cancelled"
    nothing = client.post("/v1/reviews", json={**good, "right": "one"}).json()
    assert nothing["warnings"] == ["both sides are the same model: what is found is how raters differ by chance"]
    do_pending_work()
    assert ask(client, cancelled)["status"] == "cancelled"
    failed = ask(client, nothing["id"])
    assert (failed["status"], failed["error"]) == (
        "failed",
        f"{file} has no conversation with a user's turn to reply to",
    )
    assert client.get(f"/v1/reviews/{cancelled}/result").headers["x-should-retry"] == "false"
