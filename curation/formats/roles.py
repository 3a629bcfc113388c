"""Speaker names and the roles they stand for."""

from collections.abc import Mapping

IGNORE = "ignore"
NAMES = {
    "user": (
        "user", "human", "customer", "client", "caller", "buyer",
        "客户", "用户", "买家", "顾客", "访客", "来电", "主叫",
    ),
    "assistant": (
        "assistant", "gpt", "bot", "agent", "chatgpt", "model", "ai", "advisor", "seller",
        "客服", "坐席", "商家", "卖家", "助手", "机器人", "座席", "客服人员", "人工客服", "智能客服",
    ),
    "system": ("system", "developer", "系统"),
}  # fmt: skip
ROLES = tuple(NAMES)
_ROLE_OF = {name: role for role, names in NAMES.items() for name in names}


def role_of(speaker: str, speakers: Mapping[str, str]) -> str | None:
    """The role of a speaker: by the upload's own mapping first, `ignore` included; None when unknown."""
    return speakers.get(speaker) or _ROLE_OF.get(speaker.strip().lower())
