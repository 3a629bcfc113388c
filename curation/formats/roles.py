"""Speaker names and the roles they stand for."""

import unicodedata
from collections.abc import Mapping

IGNORE = "ignore"
NAMES = {
    "user": (
        "user", "usr", "human", "customer", "client", "caller", "buyer", "consumer", "guest", "visitor", "member",
        "prompter", "questioner", "question", "q",
        "客户", "用户", "买家", "顾客", "访客", "来电", "主叫", "客人", "消费者", "会员", "来电人", "咨询者",
        "提问", "问",
    ),
    "assistant": (
        "assistant", "gpt", "bot", "agent", "chatgpt", "model", "ai", "advisor", "seller", "chatbot", "service",
        "operator", "staff", "representative", "support", "consultant", "answer", "a",
        "客服", "坐席", "商家", "卖家", "助手", "机器人", "座席", "客服人员", "人工客服", "智能客服", "在线客服",
        "店家", "店员", "服务员", "话务员", "接线员", "客服代表", "顾问", "被叫", "回答", "答",
    ),
    "system": ("system", "developer", "系统"),
}  # fmt: skip
ROLES = tuple(NAMES)
_ROLE_OF = {name: role for role, names in NAMES.items() for name in names}


def role_of(speaker: str, speakers: Mapping[str, str]) -> str | None:
    """The role of a speaker: by the upload's own mapping first, `ignore` included; None when unknown."""
    return speakers.get(speaker) or speakers.get(speaker.strip()) or _ROLE_OF.get(_folded(speaker))


def _folded(speaker: str) -> str:
    return unicodedata.normalize("NFKC", speaker).strip().strip(":").strip().lower()


class Speakers:
    """The upload's own mapping, and the roles of the speakers met so far."""

    MAX_SEEN = 100
    MAX_KNOWN = 1_000

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self.mapping = mapping or {}
        self.seen: dict[str, str | None] = {}
        """Role by speaker name; None for one that is unknown."""
        self._known: dict[str, str | None] = {}

    def role_of(self, speaker: str) -> str | None:
        """The speaker's role, `ignore`, or None when it is unknown."""
        if speaker in self._known:
            return self._known[speaker]
        role = role_of(speaker, self.mapping)
        if speaker not in self.seen and len(self.seen) < self.MAX_SEEN:
            self.seen[speaker[:100]] = role
        if len(self._known) < self.MAX_KNOWN:
            self._known[speaker] = role
        return role

    def meet(self, seen: Mapping[str, str | None]) -> None:
        """Adds speakers that were met elsewhere."""
        for speaker, role in seen.items():
            if len(self.seen) < self.MAX_SEEN:
                self.seen.setdefault(speaker, role)
