"""Gender: what users say of themselves, and an agent's form of address that they let stand."""

import re
from datetime import date

from curation.tagging.claims import ADVERB, BEGIN, END, SELF, Rule, Values, rule

WOMAN = (
    r"女(?:的|生|孩子|孩|士|性|人|司机|教师|老师|大学生|学生|同志|强人|儿身|护士|医生|员工|兵|工程师|青年|博士|白领|老板|消费者)|"
    r"姑娘|妹子|老太太|老太婆|老奶奶|大妈|妈妈|宝妈|新手妈妈|家庭主妇|家庭妇女|全职太太|母亲"
)
MAN = (
    r"男(?:的|生|孩子|孩|士|性|人|司机|教师|老师|大学生|学生|同志|护士|医生|员工|兵|工程师|青年|博士|消费者)|"
    r"大?小伙子?|老头子?|大叔|大爷|大?老?爷们儿?|单身汉|汉子|爸爸|宝爸|奶爸|父亲|老先生|光棍"
)
TAIL = r"(?!宿舍|朋友|装|款|就好|科|排|是女|是男|的?(?:朋友|同学|老公|老婆|助理|儿子|女儿|家属|客户)|专|票|服|鞋|厕)"
FILL = r"(?:(?!不|没|给|帮|找|替|和|跟|被|老公|老婆|男朋|女朋|朋友|王|李|张|刘)[\u4e00-\u9fff]){0,5}?"
BE = rf"(?:{ADVERB}|一个|一位|一名|一|个|名|位|大|单身|这个|当|做|作为|本人|可|，)*"
SURNAME = r"(?!我|您|你|他|她|的|是|那|这|位|叫|和|找|给)[\u4e00-\u9fff]{1,2}"
FEMALE_TITLE, MALE_TITLE = r"女士|小姐|太太|大?姐|阿姨", r"先生|大?哥|大?爷"


def _which(match: re.Match[str], as_of: date) -> Values:
    yield "gender", "female" if match.group("female") else "male"


NOUN = rf"(?:(?P<female>{WOMAN})|(?P<male>{MAN})){TAIL}"
BARE = r"(?:(?P<female>女)|(?P<male>男))(?:的|性|生|士)?"
TITLE = rf"(?:(?P<female>{FEMALE_TITLE})|(?P<male>{MALE_TITLE}))(?!的)"
RULES: tuple[Rule, ...] = (
    rule(rf"{SELF}{BE}(?:是|一|个|作为|当){BE}{FILL}{NOUN}", _which),
    rule(rf"{SELF}(?:属于)?(?!妈妈|爸爸|母亲|父亲|大妈|大爷){NOUN}", _which),
    rule(rf"{SELF}这个当(?:(?P<female>妈)|(?P<male>爸))", _which),
    rule(rf"作为(?:一|个|名|位)*{FILL}{NOUN}(?!的)", _which, own=False),
    rule(rf"性别(?:是|为|：|:|\s)*{BARE}", _which, own=False),
    rule(rf"(?:本人|我|患者本人|^患者)[是，,：:\s]*{BARE}{END}", _which),
    rule(rf"{BEGIN}(?:未婚|已婚)?{BARE}(?:[，,、\s]+(?=\d|未婚|已婚|本科|大专|身高|体重|[二三四五六]十)|(?=\d\d(?:周?岁)?(?:[，,。！\s]|$)))", _which, own=False),
    rule(rf"(?:\d岁?|十.?岁?)[，,、\s]*{BARE}{END}", _which, own=False),
    rule(rf"{BEGIN}(?:\d+岁)?{NOUN}(?:一枚|一个|一名|[，,\s]+(?=\d|身高|体重))", _which, own=False),
    rule(rf"\d岁(?:(?P<female>女生|女孩)|(?P<male>男生|男孩)){END}", _which, own=False),
    rule(rf"(?:叫我|喊我|称呼我){SURNAME}{TITLE}", _which),
    rule(rf"(?:我是|我姓[\u4e00-\u9fff]|我叫[\u4e00-\u9fff]{{1,4}}|免贵姓[\u4e00-\u9fff]|姓[\u4e00-\u9fff])(?:[^。！？!?]{{0,6}}[的，,])?{SURNAME}{TITLE}(?=[，,。！!？?\s]|就|$)", _which),
    rule(r"(?P<female>本姑娘|本小姐|本宫|老娘我|姐是女人)|(?P<male>老夫我?|本大爷|本少爷)", _which),
    rule(r"不是先生[，,]?是(?P<female>女士)|不是女士[，,]?是(?P<male>先生)", _which),
    rule(r"\b(?:i(?:'|’)?m|i am|as) (?:\w+ )?(?:a |an )(?:[\w-]+ ){0,2}?(?:(?P<female>woman|girl|female|mother|mom|mum|lady|housewife|businesswoman)|(?P<male>man|guy|dude|boy|male|father|dad|gentleman|businessman))\b(?!'s|’s)", _which),
    rule(r"\bi(?:'|’)?m (?:(?P<female>female)|(?P<male>male))\b", _which),
    rule(r"(?:^|[,.] ?)\d{2}[ -]?(?:years?[ -]old|yo|y/o)? ?(?:(?P<female>female|woman|f)|(?P<male>male|man|m))\b", _which, own=False),
    rule(r"\bi am \d{2}, (?:(?P<female>female)|(?P<male>male))\b|\bi(?:'|’)?m \d{2}, (?:(?P<f>female)|(?P<m>male))\b", lambda match, as_of: (("gender", "female" if match.group("female") or match.group("f") else "male"),)),
    rule(r"\b(?:my )?gender(?: is|:) ?(?:(?P<female>female|woman)|(?P<male>male|man))\b", _which),
    rule(r"\b(?:this is|i(?:'|’)?m) (?:(?P<female>mrs|ms|miss)|(?P<male>mr))\.? \w+(?!'s|’s|\w)", _which),
)  # fmt: skip
ASKS = r"(?:^|您的?|你的?|本人|填一下|说下|说一下)性别|^[^您你。]{0,6}性别|先生还是女士|男士还是女士|是男是女|怎么称呼|如何称呼|您?的?称呼|贵姓|尊姓|male or female|your gender"
ANSWERS: tuple[Rule, ...] = (
    rule(rf"^(?:我|是|本人)*{BARE}(?:哦|呢|啊)?{END}", _which),
    rule(rf"(?:^|[，,]|叫我|我是){SURNAME}{TITLE}{END}", _which),
    rule(r"^(?:我|是)*(?:(?P<female>女士|小姐)|(?P<male>先生))(?:$|[，,。！])", _which),
    rule(r"^(?:i'm |i am )?(?:(?P<female>female|woman)|(?P<male>male|man))\b", _which),
)  # fmt: skip
ASKS_RELATION = r"(?:您|你)是(?:孩子|宝宝|患者|小朋友)的?|(?:孩子|患者|宝宝)什么人"
MEN, WOMEN = r"先生|大哥|帅哥|大爷|叔叔|大叔", r"女士|小姐(?!姐)|大姐|美女|阿姨|大妈"
ADDRESS = re.compile(
    r"(?:^|[，,。！!？?：:\s]|(?:尊敬|亲爱)的|好的|您好|你好|喂|是|那?请|感谢您?)(?P<name>(?!我|您|你|他|她|的|那|这|各|还是|经理|客服|技师|老师|位)[\u4e00-\u9fff]{0,3}?)"
    rf"(?:(?P<female>{WOMEN})|(?P<male>{MEN}))(?=[，,。！!？?：:；;\s]|您(?!什么)|你好|请|麻烦|稍|本人|对吗|吗|$)|"
    r"\b(?:(?P<maam>ma'am|madam|mrs\.? \w+|ms\.? \w+|miss \w+)|(?P<sir>sir|mr\.? \w+))(?=[,.!?]|$)",
    re.IGNORECASE,
)
NOT_ADDRESSED = re.compile(
    r"先生[/／和或、]?(?:还是)?女士|女士[/／和或、]?(?:还是)?先生|女士们|先生们|我是[^，。]{0,6}$|收货人是$|联系人是$|接通[^，。]*$|sir or madam|sir/madam|(?:经理|客服|技师|老师)$|call you",
    re.IGNORECASE,
)
MAY_ADDRESS = r"(?i)先生|大哥|帅哥|大爷|叔叔|大叔|女士|小姐|大姐|美女|阿姨|大妈|sir|madam|ma'am|mr|ms[. ]|miss "
REFUSED = re.compile(
    r"不是(?:先生|女士|小姐|本人)|别(?:再)?叫我?(?:先生|女士|小姐|大哥|大姐|美女|帅哥|阿姨)|叫错|打错|(?:我是|我)[他她](?:的)?(?:老公|老婆|爱人|妻子|丈夫|儿子|女儿|妈|爸|家人)|^不是|^我不是|wrong number|^no\b",
    re.IGNORECASE,
)
REFUSES = r"(?i)不是|别|叫错|打错|他|她|wrong|no"
"""Native sign of REFUSED."""


def addressed(text: str) -> tuple[str, int, int] | None:
    """The gender that an agent's turn addresses the user by, with where; None where it addresses nobody or both."""
    found = []
    for match in ADDRESS.finditer(text):
        line = re.split(r"[。！？!?\n]", text[: match.end()])[-1]
        rest = re.split(r"[。！？!?\n]", text[match.start() :])[0]
        if (
            NOT_ADDRESSED.search(line)
            or NOT_ADDRESSED.search(rest.split("，")[0])
            or re.search(r"我是|收货人|联系人", line)
        ):
            continue
        found.append(("female" if match.group("female") or match.group("maam") else "male", *match.span()))
    return found[0] if len({gender for gender, *_ in found}) == 1 else None


SIGN = (
    r"(?i)[女男][的生孩士性人司教老大学同强儿护医员兵工青博白消，,、。！!？?；;：:\s\d未已本大身体二三四五六七八九十]|[男女]$|姑娘|妹子|老太|大妈|妈妈|宝妈|当妈|主妇|妇女|太太|母亲|"
    r"小伙|老头|大叔|大爷|爷们|单身汉|汉子|爸爸|宝爸|当爸|奶爸|父亲|老先生|光棍|老奶奶|先生|小姐|女士|[姐哥爷]|阿姨|老夫|本宫|老娘|少爷|姐是|"
    r"woman|girl|male|mother|mom|mum|lady|wife|man|guy|dude|boy|father|dad|gentleman|businessman|\d ?-?[fm]|mrs|ms|miss|mr"
)
"""Matches every text that a rule of this module reads."""
