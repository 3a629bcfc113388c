"""`talkmill up`: what dies is started again, and nothing outlives the command."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
from running_stack import ROOT, RunningStack

CONVERSATION = '{"messages":[{"role":"user","content":"你好"},{"role":"assistant","content":"您好"}]}\n'.encode()


def _answers(stack: RunningStack) -> bool:
    try:
        return httpx.get(f"{stack.state['url']}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_every_part_that_dies_is_started_again_and_a_killed_command_leaves_nothing(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path)
    url, processes = stack.state["url"], stack.state["processes"]
    for pid in processes.values():
        psutil.Process(pid).kill()
    stack.wait_until(lambda: set(stack.state["processes"].values()).isdisjoint(processes.values()), 30)
    stack.wait_until(lambda: _answers(stack), 30)
    assert stack.state["url"] == url
    assert stack.upload("a.jsonl", CONVERSATION)["counts"]["conversations"] == 1

    assert stack.stop(signal.SIGKILL) == []

    again = RunningStack(tmp_path)
    assert [file["filename"] for file in again.get("/files")["data"]] == ["a.jsonl"]
    assert again.stop() == []


def test_the_admin_key_is_private_and_holds_only_the_key(stack: RunningStack) -> None:
    path = stack.folder / "admin.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("tm_")
    assert path.read_text().strip() == path.read_text()


def test_a_second_stack_on_the_same_folder_is_refused_in_one_line(stack: RunningStack) -> None:
    command = [sys.executable, "-m", "app.cli", "up", "--data", str(stack.folder), "--port", "0"]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith("Error: another `talkmill up` runs on")
    assert len(second.stderr.strip().splitlines()) == 1


def test_no_text_of_users_and_no_secret_reaches_a_log(stack: RunningStack) -> None:
    marker = "这句话谁也不该看到"
    lines = [
        f'{{"messages":[{{"role":"user","content":"{marker}"}},{{"role":"assistant","content":"好"}}]}}',
        f'{{"messages":[{{"role":"谁","content":"{marker}"}}]}}',
        f'{{"messages": "{marker}"',
    ]
    stack.upload("secret.jsonl", "\n".join(lines).encode())
    stack.http.post("/files", data={"purpose": marker})
    logs = "".join(path.read_text() for path in (stack.folder / "logs").glob("*.log"))
    assert marker not in logs
    assert (stack.folder / "admin.key").read_text() not in logs
