"""Makes Chinese service dialogues of any size from a seed, as a stream: the same seed gives the same bytes.

`distinct` is the share of the texts' bytes that stands in texts said once; the rest is said again and again, as agents
do. About as many turns carry fillers, doubled characters and plain statements as in CrossWOZ and KdConv.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson

SEED = 20261125
STOCK_TEXTS = 500
"""Texts said again and again."""

THINGS = """
    宽带套餐 流量包 手机话费 快递包裹 酒店房间 往返机票 高铁车票 信用卡账单 会员积分 电子发票 退货运费
    优惠券 洗衣机 空调滤网 路由器 智能门锁 蓝牙耳机 儿童手表 保修服务 安装师傅 物流信息 收货地址
    银行卡 支付密码 自动续费 国际漫游 停车月卡 体检报告 健身课程 餐厅座位 鲜花礼盒 奶粉订单 租房合同
    汽车保养 燃气费用 水电账户 图书馆证 景区门票
""".split()
BRANDS = """
    云帆 海蓝 青禾 晨星 北辰 南风 金石 银杏 远山 长河 新月 朝阳 松果 白鹭 红枫 绿洲 飞鱼 麦田
    星野 竹林 初雪 晴川 流光 知行 安然 万象 百川 千寻 乐居 优选 雅致 拓远 汇通 嘉禾 明德 和风
    启航 天际 蜂巢 木棉
""".split()
PLACES = """
    北京 上海 成都 广州 杭州 南京 武汉 西安 重庆 苏州 长沙 郑州 青岛 厦门 昆明 哈尔滨 合肥 福州
    南宁 贵阳
""".split()
TIMES = """
    今天上午 昨天晚上 前天下午 上个星期 这个月初 周六中午 下周三 月底之前 国庆期间 早上八点半
    三个工作日内 二十四小时内
""".split()
STATES = """
    一直没有更新 突然不能使用 比原来贵了不少 显示正在处理 和页面上写的不一样 怎么都提交不上去
    收到以后发现少了配件 被系统自动取消了 需要重新认证身份 多扣了一笔钱 还没有送到门口 已经过了有效期
    颜色跟图片差得有点远 打开以后没有任何反应 说要等人工审核
""".split()
DEEDS = """
    帮您查一下后台记录 给您登记一张工单 为您申请原路退回 安排师傅上门检测 把结果用短信发给您
    联系当地网点核实 重新下发一次验证码 给您补寄缺少的配件 调整到更合适的档位 先为您冻结这笔交易
    转给专门的同事跟进 按照规定免收手续费
""".split()
USER = (
    "我的{thing}{time}开始{state}", "想问一下{place}这边的{thing}能不能改到{time}", "{time}我在{place}办的{thing}，结果{state}",
    "{thing}{state}，你们准备怎么处理", "麻烦查一下尾号{number}的{thing}", "上次客服说{time}会有答复，可是{thing}{state}",
    "如果把{thing}换成{other}要补多少差价", "{place}有没有比较近的网点可以办{thing}", "我付了{number}元，{thing}却{state}",
    "朋友推荐我用{thing}，价格大概是多少", "{thing}的{other}是不是可以一起退掉", "我看评价说{place}的{thing}{state}",
)  # fmt: skip
ASSISTANT = (
    "关于{thing}我先{deed}，请稍等", "您的{thing}目前{state}，我会{deed}", "{place}地区的{thing}预计{time}恢复正常",
    "根据规定，{thing}需要在{time}提交申请", "已经为您核对过编号{number}，{thing}确实{state}", "{thing}的事稍后由{place}的同事{deed}",
    "建议您先确认{other}，再来办理{thing}", "这笔{number}元的费用对应的是{thing}", "关于{thing}，我们可以{deed}，也可以改成{other}",
    "很抱歉，{thing}给您带来不便，我马上{deed}", "{time}之前{thing}都可以免费更改", "系统显示{thing}{state}，原因是{other}没有绑定",
)  # fmt: skip
OPENERS = ("嗯，", "呃，", "那个，", "哦，", "就是说，", "啊，那", "我我", "这个这个", "然后，")
TAILS = (
    "谢谢",
    "好的吧",
    "可以吗",
    "对不对",
    "看看再说",
    "麻烦您了",
    "这样行不行",
    "我等着呢",
    "行行行",
    "有没有别的办法",
)
STATEMENTS = (
    "我在{place}",
    "我今年{age}岁",
    "我是学生",
    "我家孩子要用",
    "我已经退休了",
    "我是{place}人",
    "{name}女士您好",
    "{name}先生您好",
)
RUDE = ("你们这群王八蛋", "滚蛋吧骗子", "真是傻逼客服", "去你妈的")
NAMES = "张王李赵刘陈杨黄周吴"


def texts(rng: random.Random, role: str) -> str:
    """One turn: one to three clauses, some with what spoken language brings along."""
    clauses = USER if role == "user" else ASSISTANT
    said = "，".join(rng.choice(clauses) for _ in range(rng.choice((1, 1, 1, 1, 2))))
    chance = rng.random()
    if role == "user" and chance < 0.12:
        said = rng.choice(OPENERS) + said
    elif chance > 0.75:
        said += "，" + rng.choice(TAILS)
    elif chance > 0.73:
        said = rng.choice(STATEMENTS) + "，" + said
    elif role == "user" and chance > 0.728:
        said = rng.choice(RUDE) + "，" + said
    return _filled(rng, said) + ("？" if role == "user" and chance < 0.3 else "。")


def conversations(rng: random.Random, *, distinct: float) -> Iterator[bytes]:
    """JSON lines without end."""
    stock = {role: [texts(rng, role) for _ in range(STOCK_TEXTS)] for role in ("user", "assistant")}
    number = 0
    while True:
        number += 1
        turns = []
        for _ in range(rng.randint(3, 9)):
            for role in ("user", "assistant"):
                said = texts(rng, role) if rng.random() < distinct else rng.choice(stock[role])
                turns.append({"role": role, "content": said})
        yield orjson.dumps({"id": f"talk-{number}", "messages": turns}) + b"\n"


def write(target: Path, num_bytes: int, *, distinct: float, seed: int = SEED) -> None:
    """Writes whole conversations of at least `num_bytes` in all."""
    written = 0
    with target.open("wb") as file:
        for line in conversations(random.Random(seed), distinct=distinct):
            file.write(line)
            written += len(line)
            if written >= num_bytes:
                return


def _filled(rng: random.Random, pattern: str) -> str:
    """Each slot filled anew."""
    filled = []
    for part in pattern.split("{"):
        slot, closed, rest = part.partition("}")
        filled.append(_value(rng, slot) + rest if closed else part)
    return "".join(filled)


def _value(rng: random.Random, slot: str) -> str:
    if slot == "number":
        return str(rng.randint(1, 99_999))
    if slot == "age":
        return str(rng.randint(18, 80))
    if slot == "thing":
        return rng.choice(BRANDS) + rng.choice(THINGS)
    words = {"other": THINGS, "place": PLACES, "time": TIMES, "state": STATES, "deed": DEEDS}
    return rng.choice(NAMES if slot == "name" else words[slot])


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes made dialogues as JSON lines.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--mb", type=float, default=100.0, help="size in millions of bytes")
    parser.add_argument("--distinct", type=float, default=0.9, help="share of bytes in texts said once")
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    write(options.target, int(options.mb * 1e6), distinct=options.distinct, seed=options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
