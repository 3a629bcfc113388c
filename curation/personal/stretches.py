"""Stretches of digit groups in a text, and what their surroundings say of them."""

import re
from dataclasses import dataclass
from functools import cached_property

CONTEXT_CHARS = 16
CLAUSE = re.compile(r"[，,。；;！!？?\n]")
COUNTED = re.compile(
    r"单号|订单|交易|凭证|包裹|编号|参考号|序号|版本|流水|序列号|串号|货号|条码|条形码|型号|工单|批号|发票|税号|追踪|快递号|物流号|合同|保单|验证码|取件码|密码|"
    r"一共|共计|合计|总额|总价|余额|金额|时间戳|[¥$€£￥#]|会员|积分|"
    r"\b(?:order|tracking|invoice|serial|reference|ref|sku|item|ticket|confirmation|case|imei|isbn|timestamp|qq|account)\b",
    re.IGNORECASE,
)
"""What numbers of other kinds are introduced by."""
UNIT = re.compile(
    r" ?(?:元|块|万|亿|千|美|港币|日元|欧元|人民币|积分|个|次|件|字节|[KMGT]B\b|bytes|秒|毫秒|米|公里|克|吨|%|℃|度|倍|年|股|rmb|usd|yuan|dollars|points)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Stretch:
    """Neighbouring digit groups and what stands around them."""

    text: str
    start: int
    end: int
    groups: tuple[str, ...]
    gaps: str
    """The class of each gap between the groups."""

    @cached_property
    def digits(self) -> str:
        """All digits."""
        return "".join(self.groups)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Digits in each group."""
        return tuple(map(len, self.groups))

    @cached_property
    def clause(self) -> str:
        """What was said just before, in the same clause."""
        before = self.text[max(0, self.start - CONTEXT_CHARS) : self.start]
        return CLAUSE.split(before.rstrip("(+ "))[-1]

    @cached_property
    def has_plus(self) -> bool:
        """Whether it is written as an international number."""
        return self.text[: self.start].rstrip("(").endswith("+")

    @cached_property
    def counts_something(self) -> bool:
        """Whether it is introduced as another kind of number, or is an amount of something."""
        amount = len(self.groups) == 1 and not self.has_plus and UNIT.match(self.text, self.end)
        return bool(amount or COUNTED.search(self.clause))

    def without(self, num_digits: int) -> "Stretch":
        """Less the first digits; the first group must have that many, or be them."""
        first = self.groups[0][num_digits:]
        groups, gaps = ((first, *self.groups[1:]), self.gaps) if first else (self.groups[1:], self.gaps[1:])
        return Stretch(self.text, self.start, self.end, groups, gaps)

    def is_counted(self, unless: re.Pattern[str]) -> bool:
        """As `counts_something`, unless the clause speaks of what the pattern matches."""
        return self.counts_something and not unless.search(self.clause)
