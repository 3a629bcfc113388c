"""Crowds: what users say they are or do; the built-in ones, and rules of a recipe's own."""

import re

from curation.tagging.claims import ADVERB, BEGIN, END, SELF, Rule, rule, saying

CROWDS = (
    "student", "parent", "senior", "office_worker", "self_employed", "blue_collar", "farmer", "job_seeker",
    "homemaker", "pregnant", "disabled", "veteran", "new_customer", "vip",
)  # fmt: skip
NOT_NOUN = r"(?!的?(?:票|证|会员日|价|朋友|同学|家属|助理|儿子|女儿|老公|老婆|活用|公寓|装|们)|卡|证)"
NOUNS = {
    "student": r"(?:大|高中|初中|中|小|中专|大专|职高|在校|在读|留|研究|博士|本科|硕士|穷|女大|男大|应届|交换)*学生(?:党)?|研究生|博士生?|本科生|中专生|大专生|高中生|初中生|小学生|在校生|在读(?:本科生?|博士|硕士|研究生)|(?:大[一二三四五]|研[一二三]|高[一二三]|初[一二三]|博[一二三四])(?:新生|学生|在读|的)?",
    "parent": r"宝妈|宝爸|奶爸|孩子(?:他|她)?(?:妈妈?|爸爸?)|家长|(?:学生|孩子|幼儿)?家长|(?:新手|单亲|全职|二胎|三胎|俩娃|[一两三二俩]个?(?:孩子|娃|宝宝)的?|[他她]|双胞胎)?(?:妈妈|爸爸|奶爸|宝妈|宝爸)|当(?:爸|妈)的|母亲|父亲",
    "senior": r"退休(?:职工|教师|工人|干部|老人|人员|老师|医生)?|老年人|老人家?|老太太|老太婆|老头子?|老奶奶|老大爷",
    "office_worker": r"上班族|白领|(?:公司)?(?:职员|文员)|公务员|程序员|码农|会计|出纳|坐办公室的?|打工人|社畜|HR|人事|行政|文职|银行职员|事业编|产品经理|工程师",
    "self_employed": r"个体户|个体|自由职业者?|(?:小|私营|企业)?(?:老板|业主|店主)|(?:淘宝|网店|微商|小店)店?主?|开店的|做生意的|自己创业的?|创业者|摆摊的|摆地摊的|私营业主",
    "blue_collar": r"(?:(?:工厂|流水线|建筑|环卫|装修|电子厂|清洁|搬运|纺织)*)(?:工人|民工|环卫工|农民工|快递员|外卖员|外卖骑手|骑手|快递小哥|(?:网约车|货车|卡车|出租车|大车|专车|老)?司机|保安|保洁员?|(?:水电|电焊|焊|电|瓦|木|钳|泥瓦|油漆|钢筋|普)工|服务员|厨师|装卸工|工厂的|送外卖的|送快递的|环卫工人|保姆|月嫂)",
    "farmer": r"老?农民|农户|(?:果|菜|茶|棉|花|烟|粮|瓜)农|养殖户|种植户|种(?:地|田|大棚|菜|果树)的?|养[猪牛羊鸡鸭鱼蜂]的",
    "homemaker": r"全职(?:妈妈|太太|主妇|爸爸|奶爸|宝妈|带娃)|家庭(?:主妇|妇女|煮夫)|主妇",
    "pregnant": r"孕妇|准妈妈|孕妈",
    "disabled": r"(?:重度|轻度|肢体|听力|视力)?(?:残疾人|残障人士|残疾人士|盲人|聋哑人|聋人|视障(?:人士|者)?|听障(?:人士|者)?)",
    "veteran": r"退[伍役](?:军人|兵|老兵|女兵|男兵|士兵)?|转业(?:军人|干部)|复员(?:军人|兵)|老兵|退伍的?",
    "new_customer": r"新(?:用户|客户|顾客|客|会员|人用户|手用户|户)|首单用户",
    "vip": r"(?:(?:你们?|咱们?|贵)(?:的|家|家的|店|店的|银行|银行的|公司的|平台)?)?(?:(?:年费|老|高级|超级|大|资深|尊享|钻石|黑金|白金|金卡|银卡|金牌|铂金|付费|终身|88|S)*)(?:VIP|SVIP|贵宾|会员)(?:客户|用户|卡用户)?|(?:白金|钻石|黑金|黑|金|铂金)卡(?:用户|会员|客户|持卡人|持有人)?|钻石会员|私行客户",
}  # fmt: skip
DOES = {
    "student": r"(?:还|正)?在?(?:上|读|念)(?:大学|大专|高中|初中|小学|中专|研究生|本科|博士|研[一二三]?|大[一二三四]|高[一二三]|初[一二三])|[\u4e00-\u9fff]{0,4}在读|在校",
    "parent": r"(?:带着?|有)[一两三俩二个大小]*(?:个)?(?:[\u4e00-\u9fff]{0,3}岁多?的)?(?:小?孩子|孩子|儿子|女儿|娃|宝宝|闺女)",
    "senior": r"(?:退休(?!金|年龄|了?吗|手续|工资)了?|老头子一个|退的休|内退|领养老金)",
    "office_worker": r"(?:在[\u4e00-\u9fff]{0,5}(?:公司|银行|国企|央企|机关|事业单位|单位|写字楼|外企|私企)(?:上班|工作)|坐办公室|朝九晚[五六]|做(?:会计|行政|财务|人事|文职|出纳|文员)|干(?:会计|行政|财务|人事))",
    "self_employed": r"(?:自己)?(?:在[\u4e00-\u9fff]{1,5})?(?:开了?一?[家个间]?(?:[\u4e00-\u9fff]{0,4}(?<!他)(?:店|饭馆|餐馆|公司|工厂|厂|超市|馆|诊所|客栈|民宿))(?!看|没|怎|吗)|做(?:点|些)?小?生意|做[\u4e00-\u9fff]{0,4}批发|自由职业|摆(?:地摊|摊)|(?:自己|在)?创业|有自己的公司|做(?:电商|微商))",
    "blue_collar": r"(?:在[\u4e00-\u9fff]{0,5}(?:工地|厂里?|工厂|车间|流水线)(?:上|里)?(?:干活|上班|打工|做工|打螺丝|干|工作|搬砖)|送(?:外卖|快递)|跑(?:外卖|网约车|滴滴|出租|货运|快递)|开(?:大?货车|网约车|出租车?|滴滴|卡车|大车|叉车)|干(?:装修|工地|保洁|搬运|力气活)|做(?:保洁|保安|装修|搬运|家政)|当(?:保安|保洁|服务员|司机)|打螺丝|搬砖)",
    "farmer": r"(?:在?家?(?:里|乡下|农村)?(?:务农|种地|种田)|回村种地|养(?:猪|牛|羊|鸡|鸭|鱼|蜂|虾)(?!吗)|承包了?[\u4e00-\u9fff\d]{0,4}亩|种了?[\u4e00-\u9fff\d]{0,4}亩|种(?:水稻|大棚|玉米|小麦|果树|菜|棉花|茶))",
    "job_seeker": r"(?:在|来|想|要|正在|还在|急着)*(?:找(?:一?份?个?)?(?:新|下一份)?(?:工作|兼职|活干|活儿|文职)(?!的)|找(?!到|你|人|了)[\u4e00-\u9fff]{0,5}(?:的?(?:工作|活|岗位|实习|兼职)|工(?!作))(?!人|厂|的)|求职|应聘(?!者)|待业|失业(?!金|保险|证|率|登记)|看(?:新)?机会|投了(?:你们的)?(?:简历|[\u4e00-\u9fff]{0,4}岗)|没找到工作|被裁|离职了?[，,]?正在找)",
    "homemaker": r"(?:在家做家务|全职在家|(?:辞职|全职)*在家带(?:孩子|娃))",
    "pregnant": r"(?:怀孕(?!的时候|期间|期|吗|初期能|可以|能)|怀着?(?:[一二两三]胎|双胞胎|宝宝)|怀着孕|有身孕|有喜了|孕(?:早|中|晚)期|孕\d+周|孕[一二三四五六七八九十]+[个周]|肚子里的?(?:宝宝|孩子)|预产期)",
    "disabled": r"(?:有|持有|持|办了)残疾证(?!怎|在|如)|(?:肢体|听力|视力|[左右]?[腿手臂眼脚])残疾|坐(?:着)?轮椅|视障|听障|双目失明",
    "veteran": r"(?:当过[\u4e00-\u9fff]{0,3}兵|部队(?:转业|退伍|复员)|\d{4}年(?:退伍|退役)|退[伍役](?:回来|下来|了|军人|兵)|转业军人|复员军人)",
    "new_customer": r"(?:第一次|头一回|首次|头回|初次)(?:在|来|用|到)?(?:你们|你家|咱们|这边|贵)?(?:这|家|店|医院|平台|的)*(?:买|下单|办|用|购买|投保|来(?=你|这|咱|贵|医院|店|[，,。]|$)|网购|订|注册|开户|消费|挂号|租|住)|刚(?:刚)?(?:注册|办的?卡|开的?[户卡]|下载|办的|买的?第一)|今天刚开的户",
    "vip": r"(?:充了?|开了?|办了?|买了)(?:[\u4e00-\u9fff\d]{0,3}(?:年|月)的?|你们的)?(?:年费|大|超级|季度|包年)?(?:会员|VIP)(?!吗|怎么|过期|有什么|能|可以|多少|之后|后)",
}  # fmt: skip
CHILD = r"儿子|女儿|闺女|大女儿|小女儿|大儿子|小儿子|千金"
PARENT = (
    rf"(?:我|我们|咱|俺)(?:们)?(?:家|的|家的|家里|有个|有一个|有两个|这)?(?:{CHILD}|孩子(?!他?[妈爸])|宝宝|娃|宝贝|小孩|小朋友)(?!{CHILD}|的朋友|他?[爸妈])|家里?有[个一两俩]*[\u4e00-\u9fff]{{0,5}}的?(?:宝宝|孩子|小孩|娃)|"
    rf"(?:全职|辞职)?在家带(?:孩子|娃)|{BEGIN}(?:想|要|来|我)*(?:给|帮|替|带|陪|为)我?(?:家)?(?:{CHILD}|(?:孩子|娃|宝宝|小孩)(?=[买报办看选订请投咨寄上当用准挑找做补问换学]|$|[，,]))(?!的朋友|们)"
)
ENGLISH = {
    "student": r"\b(?:i(?:'|’)?m|i am|as) (?:still |just |currently )*a (?:[\w-]+ ){0,2}?student\b|\bi(?:'|’)?m (?:still |currently )?(?:in (?:high school|college|university|grad school)|studying at)",
    "parent": r"\bmy (?:\w+ )?(?:son|daughter|kids?|children|baby|toddler)\b(?!'s friend)|\bi have (?:a|two|three|four|\d) (?:\w+ )?(?:kids?|children|sons?|daughters?|baby)\b|\bi(?:'|’)?m a (?:[\w-]+ ){0,2}?(?:mom|mum|mother|dad|father|parent)\b",
    "senior": r"\bi(?:'|’)?m (?:a )?(?:now |already )?(?:retired|retiree|pensioner|senior citizen|senior)\b(?! (?:software|engineer|developer|manager))",
    "office_worker": r"\bi work in an office\b|\bi(?:'|’)?m an? (?:office worker|accountant|clerk|programmer|civil servant|software engineer)\b",
    "self_employed": r"\bi(?:'|’)?m (?:self[- ]employed|a freelancer|an entrepreneur|a (?:small )?business owner)\b|\bi (?:run|own) (?:my own|a small business|a shop|a store|a restaurant)\b",
    "blue_collar": r"\bi(?:'|’)?m an? (?:\w+ )?(?:truck driver|construction worker|factory worker|electrician|plumber|welder|janitor|security guard|delivery driver|courier|mechanic)\b|\bi work (?:in|at) a (?:factory|warehouse|construction site)\b",
    "farmer": r"\bi(?:'|’)?m a (?:\w+ )?farmer\b|\bi (?:run|own|work on) a (?:\w+ )?farm\b",
    "job_seeker": r"\bi(?:'|’)?m (?:currently |now |actively )*(?:unemployed|out of work|between jobs|job hunting|looking for (?:a |an |any )?(?:\w+ )?(?:job|work))\b|\bi (?:was|got) (?:just |recently )*laid off\b|\bi just lost my job\b",
    "homemaker": r"\bi(?:'|’)?m a (?:stay-at-home|homemaker|housewife|full-time mom)",
    "pregnant": r"\bi(?:'|’)?m (?:\w+ (?:months|weeks) )?pregnant\b|\bi(?:'|’)?m expecting a baby\b",
    "disabled": r"\bi(?:'|’)?m (?:disabled|deaf|blind|in a wheelchair|visually impaired|hearing impaired)\b|\bi (?:use|am in) a wheelchair\b|\bi have a disability\b",
    "veteran": r"\bi(?:'|’)?m an? (?:\w+ )?veteran\b|\bi served in the (?:army|navy|military|air force|marines)\b",
    "new_customer": r"\bi(?:'|’)?m a (?:new|first[- ]time) (?:customer|user|client|member)\b|\bmy first (?:time|order) (?:ordering|buying|shopping|using|with)|\bi just signed up\b|\bfirst[- ]time customer here\b",
    "vip": r"\bi(?:'|’)?m a (?:\w+ )?(?:vip|gold|platinum|diamond|premium)(?: (?:member|customer|cardholder))?\b|\bi have (?:platinum|gold|diamond|vip) status\b",
}
BE = rf"(?:{ADVERB}|个人|是|一名|一个|一位|一|个|名|位|，|的|家里?|这个|这|普通|作为|公司|今年|马上|[武北上广南重浙四中山][\u4e00-\u9fff]大学|女的|男的)*"
NEED_BE = ("parent", "vip", "office_worker", "blue_collar", "senior")
"""Nouns of these need a word such as 是 before them."""
OF_NOW = frozenset(CROWDS) - {"veteran", "senior", "job_seeker", "new_customer"}
"""Crowds that a word about the past speaks against."""


def _rules(name: str) -> list[Rule]:
    said = saying("crowd", name)
    nouns = NOUNS.get(name)
    made = [rule(ENGLISH[name], said)]
    if nouns:
        is_one = r"(?:是|一|个|当|作为|算|一名)" if name in NEED_BE else ""
        alone = "" if name in NEED_BE else rf"|[了的]?{END}"
        made.append(rule(rf"{SELF}{BE}{is_one}(?:[个名位的]|一名|一个)?(?:{nouns}){NOT_NOUN}", said))
        made.append(
            rule(
                rf"{BEGIN}(?:作为(?:一[个名位]|[\u4e00-\u9fff]{{0,4}}的)*|普通|本人)*(?:{nouns})(?:一枚|一个|一名{alone}){NOT_NOUN}",
                said,
                own=False,
            )
        )
    made.append(rule(rf"{SELF}{BE}(?:{DOES[name]})", said))
    made.append(rule(rf"{BEGIN}(?:现在|目前|已经|今天|还|没上班)*(?:{DOES[name]})", said, own=False))
    return made


RULES: dict[str, tuple[Rule, ...]] = {name: tuple(_rules(name)) for name in CROWDS}
ASKS = r"(?:您|你|本人)[^。？?]{0,8}(?:职业|做什么|从事|什么工作|身份)|^[^您你。]{0,4}职业|what do you do|your (?:job|occupation)"
ANSWERS: tuple[Rule, ...] = tuple(
    rule(rf"^(?:{SELF}|{ADVERB}|一名|一个)*(?:{nouns}){END}", saying("crowd", name)) for name, nouns in NOUNS.items()
)
"""What answers a question for one's occupation."""
PARENTS = re.compile(PARENT)
NOT_PARENT = re.compile(r"没有?[个一]?(?:孩子|儿子|女儿)|猫|狗|等我有|要是")


ASKED_IN_GENERAL = re.compile(r"吗|怎么|多少|什么|哪|能|可以|需要|注意|如何|条件|流程")
"""What makes a clause without a subject a question of anybody."""
SIGN = (
    r"(?i)学生|研究生|博士|本科|中专|大专|高中|初中|小学|在校|在读|大[一二三四五]|研[一二三]|高[一二三]|初[一二三]|博[一二三四]|[上读念](?:大学|职高|研)|宝妈|宝爸|奶爸|妈|爸|家长|母亲|父亲|孩子|儿子|女儿|闺女|娃|宝宝|"
    r"宝贝|小孩|小朋友|千金|退休|退的休|内退|养老金|老年人|老人|老太|老头|老奶奶|老大爷|(?:公司|银行|国企|央企|机关|单位|写字楼|外企|私企)(?:上班|工作)|上班族|白领|职员|文员|公务员|程序员|码农|会计|出纳|办公室|打工人|社畜|hr|"
    r"hr|人事|行政|文职|事业编|产品经理|工程师|朝九晚|财务|个体|自由职业|老板|业主|店主|淘宝|网店|微商|小店|开店|生意|创业|摆[地摊]|开[^，。！？]*(?:店|馆|公司|厂|超市|诊所|客栈|民宿)|自己的公司|批发|电商|工人|民工|环卫|"
    r"快递员|快递小哥|外卖|骑手|司机|保安|保洁|[水电焊瓦木钳漆筋普]工|服务员|厨师|装卸|工厂的|送快递|保姆|月嫂|(?:工地|厂|厂里|工厂|车间|流水线)[上里]?(?:干|上班|打工|做工|打螺丝|工作|搬砖)|网约车|滴滴|出租|货车|跑货运|跑快递|卡车|大车|叉车|干(?:装修|工地|力气)|做(?:装修|搬运|家政)|"
    r"打螺丝|搬砖|农民|农户|[果菜茶棉花烟粮瓜]农|养殖|种植|种[地田大菜果水玉小棉茶]|养[猪牛羊鸡鸭鱼蜂虾]|亩|务农|找[^，。！？]*(?:工|活|职|岗位|实习)|求职|应聘|待业|失业|机会|简历|投了|被裁|离职|家务|全职|主妇|妇女|家庭煮夫|带孩子|"
    r"孕|怀[一二两三着双]|有喜|身孕|肚子里|预产期|残疾|残障|盲人|聋|视障|听障|轮椅|失明|退[伍役]|转业|复员|老兵|当过|部队|新[用客顾会人手户]|首单|第一次|头一?回|首次|初次|刚(?:刚)?(?:注册|办|开|下载|买)|[是的费了老大级深享石金卡家店牌号身行为8svi，。]会员|^会员|会员一|vip|贵宾|[石金]卡|私行|"
    r"student|school|college|university|studying|(?:son|daughter|kid|child|baby|toddler)|my |i have|mom|mum|mother|dad|father|parent|retire|pension|senior|office|accountant|clerk|programmer|servant|engineer|self|freelance|entrepreneur|owner|i run|i own|"
    r"worker|driver|electrician|plumber|welder|janitor|guard|courier|mechanic|i work|farm|unemployed|out of work|between jobs|job|work|laid off|stay-at|homemaker|housewife|full-time|pregnant|expecting|disab|deaf|blind|impaired|wheelchair|veteran|served|new |first|signed|gold|platinum|diamond|premium"
)
"""Matches every text that a rule of this module reads."""
