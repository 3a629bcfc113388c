"""Whether something in a turn is asserted by its speaker, of themselves, and of now.

Quotations, hypotheses, questions, negations, other people and times gone by are told apart here, for every field alike.
"""

import re
from dataclasses import dataclass, field

KIN = (
    r"爸爸?|妈妈?|爹|娘(?!家)|父亲|母亲|父母|爷爷|奶奶|姥姥|姥爷|外公|外婆|公公|婆婆|岳父|岳母|丈母娘|老公|老婆|老伴|爱人|媳妇|丈夫|妻子|太太|"
    r"对象|男朋友|女朋友|男友|女友|未婚妻|未婚夫|前任|朋友|同学|同事|室友|同屋|闺蜜|哥哥?|姐姐?|弟弟?|妹妹?|弟媳|儿子|女儿|闺女|孩子|宝宝|娃|小孩|小朋友|孙子|孙女|"
    r"侄子|侄女|外甥女?|叔叔|姑姑?|舅舅?|姨妈?|嫂子|女婿|儿媳|老人|长辈|家人|家属|亲戚|邻居|房东|老板|客户|店员|员工"
)
OTHER = re.compile(
    rf"(?:我|我们|咱|俺|他|她|你|您|的|个|位)(?:们)?(?:家|的|那|这|有个|有一个|大|小|前|表|堂|俩|两个?)?(?:{KIN})|(?:给|帮|替|为|找|陪|带|让|填|和|跟)(?:我|我们|咱|咱们|俺|一个|个|这个)?(?:家|的)?(?:{KIN}|客户|老人)"
    rf"|^(?:{KIN})|[，,。：:\s](?:{KIN})|家有老人|[我您你]家?先生|[他她]|对方|别人|有人|某人|猫|狗|鹦鹉|的车|机主|房东|收件人|联系人|"
    r"\bm(?:y|um) (?:\w+ )?(?:mother|father|mom|dad|son|daughter|wife|husband|friend|brother|sister|kids?|child|children|baby|boss|parents?|neighbou?r|girlfriend|boyfriend)\b|\b(?:he|she|his|her|they)\b",
    re.IGNORECASE,
)
HYPOTHESIS = re.compile(
    r"如果(?!方便|可以|没记错)|假如|要是|假设|倘若|万一|比如|例如|譬如|就当|当作|假装|好像|可能|怀疑|先按|按照?(?=[\d一二三四五六七八九十女男])|等我|等到|"
    r"\bif\b|\bsuppose\b|\bwhen i was\b|\bimagine\b|\bused to\b|\bsomeday\b|\bnot\b|\bdon't\b|\bno longer\b|\bhow (?:old|do i)\b",
    re.IGNORECASE,
)
PAST = re.compile(r"以前|之前|原来|原先|曾经|过去|当年|小时候|那时|那会儿|年前|去年|前年|大学是|从\s*$")
FUTURE = re.compile(
    r"想要?(?!问|咨询|了解|找|应聘)|打算|准备|计划|将来|以后|明年|下个?月|下周|快要|即将|考虑|要不要|等"
)
DENIED = re.compile(r"(?:不是|没有|不算|并非|是不是|是否|不再|不|没|未|别|又不|哪里是|像是|算|非|说|问|告诉|以为)\s*$")
DOUBT = re.compile(
    r"^(?:的?(?:吗|么|嘛(?=[？?])|吧(?=[？?])|还是)|的话|的时候|时候|时(?!候)|那年|那会|就好|以前|之前|以后|之后|以上|以下|之内|以内|前(?!后))"
)
QUOTED = re.compile(r"[“「『\"][^”」』\"]*[”」』\"]")
CLAUSE = re.compile(r"[。！？!?；;，,、\n]|\.(?=\s|$)")
SENTENCE = re.compile(r"[。！？!?；;\n]|\.(?=\s|$)")
YES = re.compile(
    r"^\s*(?:嗯+|哦|啊)?[，, ]*(?:是的?|是啊|对的?|对对|嗯+|没错|有|满了|yes|yeah|yep|correct|right|sure)(?=[，,。！!\s是我你]|$)",
    re.IGNORECASE,
)
NO = re.compile(r"^\s*(?:不是|没有?|不|打错|别|你?打?错了|no\b|nope)", re.IGNORECASE)
QUESTION = re.compile(r"[？?吗]|\bare you\b|\bdo you\b", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    """A turn as the rules see it: quotations blanked, offsets as in the original."""

    index: int
    text: str
    plain: str = field(init=False)
    previous: str = ""
    """What the agent said right before."""
    others: bool = False
    """Whether the conversation speaks of somebody else before that."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", QUOTED.sub(lambda match: " " * len(match.group()), self.text))

    def asserts(self, start: int, end: int, *, own: bool, of_now: bool = True) -> bool:
        """Whether the slice is asserted by the speaker of themselves; `own`: it names them."""
        before_text = self.plain[:start]
        sentence = SENTENCE.split(before_text)[-1]
        clause = CLAUSE.split(before_text)[-1]
        said = self.plain[start:end]
        after = CLAUSE.split(self.plain[end:])[0]
        if HYPOTHESIS.search(sentence) or HYPOTHESIS.search(said) or "的话" in after:
            return False
        if DENIED.search(clause) or DOUBT.match(self.plain[end:]):
            return False
        if OTHER.search(clause) or (
            not own and (self.others or OTHER.search(before_text) or OTHER.search(self.previous))
        ):
            return False
        return not of_now or not (PAST.search(clause) or FUTURE.search(clause))


def speaks_for_another(text: str) -> bool:
    """Whether a turn makes somebody else its subject, so that later ones may leave them out."""
    found = OTHER.search(text)
    return found is not None


def confirmed(question: str, answer: str) -> str | None:
    """An agent's question as the statement that a yes makes of it, of the same length; None without a yes."""
    if YES.match(answer) is None or re.search(r"\d", answer) or NO.match(answer) or QUESTION.search(question) is None:
        return None
    *_, last = [match.start() for match in re.finditer(r"[您你]", question)] or [-1]
    if last < 0:
        return None
    stated = re.sub(r"[您你]", "我", question)
    return re.sub(r"对吗|是吗|吗|么|呢|？|\?|请问|是否", lambda match: "。".ljust(len(match.group())), stated)
