"""What the columns of tables, and the members of records, are called, in English and Chinese.

Names are compared without case, width, spaces and separators: `Conversation ID` is `conversation_id`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache

from curation.errors import InputError

SEPARATORS = re.compile(r"[\s_\-./:()（）]+")
MAX_NAMES_SHOWN = 20
NAMES = {
    "conversation_id": (
        "conversation_id", "conversation", "conv_id", "convo_id", "dialog_id", "dialogue_id", "dialogue", "session_id",
        "session", "chat_id", "call_id", "thread_id", "ticket_id", "case_id",
        "会话id", "会话编号", "会话号", "会话", "对话id", "对话编号", "对话号", "通话id", "通话编号", "通话",
        "录音编号", "工单号", "工单编号",
    ),
    "speaker": (
        "speaker", "role", "from", "sender", "author", "speaker_role", "participant", "party", "sender_type",
        "角色", "说话人", "说话者", "说话角色", "发言人", "发言者", "发送人", "发送者", "发送方", "身份",
    ),
    "text": (
        "text", "content", "message", "utterance", "value", "body", "msg", "transcript", "sentence",
        "内容", "文本", "消息", "消息内容", "对话内容", "聊天内容", "发言内容", "说话内容", "话术",
        "语句", "转写文本", "文字",
    ),
    "time": (
        "time", "timestamp", "datetime", "date_time", "date", "created_at", "sent_at", "start_time", "ts",
        "时间", "发送时间", "时间戳", "日期", "发言时间", "消息时间", "说话时间", "创建时间", "开始时间", "对话时间",
    ),
    "turn": ("turn", "turn_id", "turn_index", "turn_number", "seq", "sequence", "order", "序号", "轮次", "顺序"),
    "id": ("id", "uid", "编号", "序列号"),
    "user.id": (
        "user_id", "customer_id", "client_id", "member_id", "用户id", "客户id", "会员id", "用户编号", "客户编号",
    ),
    "user.age": ("age", "user_age", "customer_age", "年龄", "用户年龄", "客户年龄"),
    "user.birth_year": ("birth_year", "year_of_birth", "出生年份", "出生年"),
    "user.gender": ("gender", "sex", "性别", "用户性别", "客户性别"),
    "user.phone": (
        "phone", "mobile", "phone_number", "mobile_number", "手机", "手机号", "手机号码", "电话", "电话号码",
    ),
    "user.province": ("province", "省份", "省"),
    "user.city": ("city", "城市", "市"),
    "user.country": ("country", "国家"),
    "user.crowd": ("crowd", "人群"),
    "instruction": ("instruction", "prompt", "question", "query", "指令", "问题"),
    "input": ("input", "输入"),
    "output": ("output", "response", "completion", "answer", "reply", "输出", "回答", "答案"),
    "history": ("history", "历史"),
    "system": ("system", "system_prompt", "系统"),
    "messages": (
        "messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "消息", "对话", "会话",
    ),
    "user": ("user", "用户", "客户"),
    "meta": ("meta", "metadata", "元数据"),
    "label": ("label", "category", "class", "target", "tag", "标签", "类别", "分类"),
    "spoken": ("spoken", "source", "disfluent", "asr", "口语", "原文"),
    "written": ("written", "fluent", "cleaned", "书面", "书面语", "改写"),
    "chosen": ("chosen", "preferred", "better", "优选"),
    "rejected": ("rejected", "dispreferred", "worse", "拒绝"),
    "word": ("word", "words", "term", "keyword", "词", "词语", "敏感词", "关键词"),
    "allow": ("allow", "allowed", "whitelist", "白名单"),
}  # fmt: skip


def folded(name: str) -> str:
    """A name without case, width, spaces and separators."""
    return SEPARATORS.sub("", unicodedata.normalize("NFKC", name)).lower()


_KNOWN = {ours: {folded(name): rank for rank, name in enumerate(names)} for ours, names in NAMES.items()}


def resolve(names: Iterable[str], wanted: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which of a table's `names` is which of the `wanted` columns of ours, as ours → theirs; the best name wins.

    `given` is the upload's own mapping, theirs → ours, and comes first.
    """
    names = tuple(names)
    return dict(_resolve(names, tuple(wanted), tuple(given.items())))


@lru_cache(maxsize=1024)
def _resolve(
    names: tuple[str, ...], wanted: tuple[str, ...], given: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    theirs = {canonical(ours): name for name, ours in given if name in names}
    taken = {name for name, _ in given}
    for ours in wanted:
        ranked = [(rank, name) for name in names if (rank := _KNOWN[ours].get(folded(name))) is not None]
        free = sorted((rank, name) for rank, name in ranked if name not in taken)
        if ours not in theirs and free:
            theirs[ours] = free[0][1]
            taken.add(free[0][1])
    return tuple((ours, theirs[ours]) for ours in wanted if ours in theirs)


def canonical(ours: str) -> str:
    """Our name of a column that a user wrote in one of its spellings.

    Raises:
        InputError: we have no such column.
    """
    if ours in NAMES:
        return ours
    for name, spellings in _KNOWN.items():
        if folded(ours) in spellings:
            return name
    raise InputError(f"columns: there is no column {ours[:40]!r} of ours, but {', '.join(NAMES)}")


def shown(names: Iterable[str]) -> str:
    """Column names for a message, at most some of them, none of them long."""
    listed = [repr(name[:40]) for name in names]
    more = f" and {len(listed) - MAX_NAMES_SHOWN} more" if len(listed) > MAX_NAMES_SHOWN else ""
    return ", ".join(listed[:MAX_NAMES_SHOWN]) + more
