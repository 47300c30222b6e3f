"""Words hospitals use, English and Chinese: what is read without being told, and what a draft guesses.

Only whole cells are read by these tables, never parts of a cell; ``[values.*]`` of a ``cohort.toml`` goes before them.
The ICD-10 codes are defaults that a hospital must confirm: what a code covers differs between countries.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache


@lru_cache(maxsize=100_000)
def plain(text: str) -> str:
    """A word for comparison: full-width forms, upper case and spaces do not matter.

    >>> plain("  Ｄ２２ ．5 "), plain("Basal  Cell")
    ('d22 .5', 'basal cell')
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


_INVISIBLE: dict[int, str | None] = {
    **dict.fromkeys([0x00AD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    **dict.fromkeys([0x00A0, 0x2007, 0x202F, 0x3000], " "),
}


def visible(text: str) -> str:
    """A cell, heading or name without what cannot be seen: zero-width signs go, every kind of space is a space.

    Two ids that look the same must be the same: a patient would otherwise count as two.

    >>> visible("\ufeffP1\u200b "), visible("A\u00a07")
    ('P1', 'A 7')
    """
    return text.strip() if text.isascii() else text.translate(_INVISIBLE).strip()


UNKNOWN = frozenset({"unknown", "unk", "not known", "?", "-", "--", "/", "未知", "不详", "未填"})
"""Words that mean nothing is known where sex, site or diagnosis is asked; they are null without being counted."""

SEX = {
    **dict.fromkeys(("female", "f", "w", "woman", "weiblich", "女", "女性"), "female"),
    **dict.fromkeys(("male", "m", "man", "männlich", "男", "男性"), "male"),
}

_HEAD, _GENITAL, _LEG, _PALM, _TORSO, _ARM = (
    "head/neck", "oral/genital", "lower extremity", "palms/soles", "torso", "upper extremity",
)  # fmt: skip
SITES: dict[str, tuple[str, str]] = {
    term: (site, region)
    for site, region, terms in (
        (_HEAD, "FACE", "face|面部|脸|脸部|颜面|颜面部|面"),
        (_HEAD, "FACE", "cheek|forehead|chin|temple|额|额部|前额|颊|颊部|面颊|颏部|下颌|颞部|眼睑|眉弓|左面部|右面部|"
        "左颊|右颊"),
        (_HEAD, "NOSE", "nose|鼻|鼻部|鼻翼|鼻背|鼻尖"),
        (_HEAD, "EAR", "ear|耳|耳部|耳廓|左耳|右耳"),
        (_HEAD, "LIP", "lip|唇|唇部|上唇|下唇|口唇"),
        (_HEAD, "SCALP", "scalp|头皮|头皮部"),
        (_HEAD, "NECK", "neck|颈|颈部|颈项部|项部"),
        (_HEAD, "", "head|head/neck|head and neck|head neck|头|头部|头颈|头颈部|头面部|头面颈部"),
        (_GENITAL, "", "oral/genital|genital|genitals|genital areas|oral|口腔|生殖器|外阴|外生殖器|肛周|会阴|"
        "口腔/生殖器"),
        (_LEG, "THIGH", "thigh|大腿|左大腿|右大腿|股部"),
        (_LEG, "FOOT", "foot|足|足部|足背|左足|右足|脚"),
        (_LEG, "", "lower extremity|lower extremities|lower limb|lower limbs|leg|calf|shin|下肢|小腿|左下肢|右下肢|"
        "左小腿|右小腿|腿部|膝"),
        (_PALM, "", "palms/soles|palm|palms|sole|soles|acral|手掌|足底|足跖|掌跖|掌跖部|肢端"),
        (_TORSO, "CHEST", "chest|胸|胸部|前胸|胸前"),
        (_TORSO, "BACK", "back|背|背部|后背|腰背部"),
        (_TORSO, "ABDOMEN", "abdomen|腹|腹部"),
        (_TORSO, "", "torso|trunk|anterior torso|lateral torso|posterior torso|buttocks|躯干|臀|臀部|腰|腰部|腋下"),
        (_ARM, "FOREARM", "forearm|前臂|左前臂|右前臂"),
        (_ARM, "ARM", "arm|upper arm|上臂|左上臂|右上臂|手臂"),
        (_ARM, "HAND", "hand|手|手部|手背|左手|右手|左手背|右手背"),
        (_ARM, "", "upper extremity|upper extremities|upper limb|upper limbs|shoulder|上肢|左上肢|右上肢|肩|肩部|肘部"),
    )
    for term in terms.split("|")
}  # fmt: skip
"""Anatomical term -> (one of the six sites, PAD-UFES-20 region or empty)."""

DIAGNOSES: dict[str, str] = {
    term: code
    for code, terms in {
        "nevus": "nevus|naevus|nv|nev|melanocytic nevus|mole|色素痣|黑素细胞痣|痣|皮内痣|交界痣|混合痣|复合痣|"
        "黑素细胞痣(皮内痣)",
        "melanoma": "melanoma|mel|mm|malignant melanoma|黑色素瘤|恶性黑色素瘤|黑素瘤|恶性黑素瘤|原位黑素瘤|"
        "原位黑色素瘤",
        "basal_cell_carcinoma": "basal cell carcinoma|bcc|基底细胞癌|基底细胞上皮瘤|基底细胞瘤",
        "squamous_cell_carcinoma": "squamous cell carcinoma|scc|鳞状细胞癌|鳞癌|皮肤鳞状细胞癌",
        "actinic_keratosis": "actinic keratosis|solar keratosis|ack|ak|日光性角化|日光性角化病|日光角化病|"
        "光线性角化病|光化性角化病",
        "seborrheic_keratosis": "seborrheic keratosis|seborrhoeic keratosis|sek|sk|脂溢性角化|脂溢性角化病|老年疣",
        "benign_keratosis": "benign keratosis|bkl|良性角化病|扁平苔藓样角化病",
        "solar_lentigo": "solar lentigo|日光性黑子|日光性雀斑样痣|老年性黑子",
        "dermatofibroma": "dermatofibroma|df|皮肤纤维瘤",
        "vascular_lesion": "vascular lesion|vasc|hemangioma|haemangioma|angioma|pyogenic granuloma|血管瘤|"
        "樱桃状血管瘤|血管性病变|"
        "化脓性肉芽肿|血管角皮瘤",
        "melanosis": "melanosis|黑变病",
    }.items()
    for term in terms.split("|")
}

YES_NO = {
    **dict.fromkeys(("true", "yes", "y", "1", "1.0", "t", "√", "✓", "是", "有", "阳性", "+"), "True"),
    **dict.fromkeys(("false", "no", "n", "0", "0.0", "f", "×", "✗", "否", "无", "没有", "阴性"), "False"),
}

CONFIRMED = {
    **dict.fromkeys(("histopathology", "histo", "biopsy", "pathology", "病理", "组织病理", "活检", "手术病理"),
        "histopathology"),
    **dict.fromkeys(("follow_up", "follow up", "follow-up", "随访"), "follow_up"),
    **dict.fromkeys(("consensus", "expert consensus", "会诊", "专家共识"), "consensus"),
    **dict.fromkeys(("confocal", "rcm", "皮肤ct", "共聚焦"), "confocal"),
    **dict.fromkeys(("clinical", "clinical diagnosis", "临床", "临床诊断"), "clinical"),
}  # fmt: skip

MODALITY = {
    **dict.fromkeys(("dermoscopic", "dermoscopy", "dermatoscopic", "皮肤镜"), "dermoscopic"),
    **dict.fromkeys(("clinical", "photo", "macroscopic", "phone", "临床照片", "手机", "相机", "大体"), "clinical"),
}

ICD10 = {
    "C43": "melanoma",
    "D03": "melanoma",
    "D22": "nevus",
    "L57.0": "actinic_keratosis",
    "L82": "seborrheic_keratosis",
    "D18.0": "vascular_lesion",
}
"""ICD-10 prefix -> diagnosis. C44 (other skin cancer) and D23 (other benign tumour) name no diagnosis of ours by
themselves and are left to the hospital."""

ICD10_CODE = re.compile(r"[A-Z]\d{2}(?:\.?\d[0-9A-Z]*)?(?![A-Z])")
"""A code, or the code that a cell begins with (C43.9 malignant melanoma)."""

# ------------------------------------------------------------------------------------------- guesses of a draft

HEADERS: dict[str, str] = {
    "image": "image|img|file|filename|file_name|image_name|image_file|img_id|image_id|photo|picture|图片|图像|照片|"
    "文件名|图像文件|图片名称|"
    "图像名称|影像文件|图片编号|照片名称|照片编号",
    "accession": "accession|accession_number|accession_no|检查号|影像号|检查编号|申请单号",
    "patient_id": "patient|patient_id|patientid|pid|mrn|患者|患者编号|患者id|病人|病人编号|病人id|病历号|住院号|"
    "门诊号|登记号",
    "lesion_id": "lesion|lesion_id|皮损|皮损编号|病灶|病灶编号",
    "diagnosis": "diagnosis|dx|diagnostic|label|class|pathology|histology|病理诊断|诊断|诊断结果|病理结果|临床诊断|"
    "病理",
    "icd10": "icd|icd10|icd_10|icd_code|疾病编码|诊断编码|icd编码",
    "age_years": "age|age_years|age_approx|年龄|岁数",
    "birth_date": "birth_date|date_of_birth|dob|birthday|出生日期|出生年月|生日",
    "exam_date": "exam_date|visit_date|study_date|date_of_exam|检查日期|就诊日期|拍摄日期|检查时间|就诊时间",
    "sex": "sex|gender|性别",
    "site": "site|location|localization|anatom_site|anatomical_site|body_site|region|部位|皮损部位|病变部位|解剖部位|"
    "发病部位|检查部位",
    "confirmed_by": "confirmed_by|confirmation|dx_type|确诊方式|确诊依据|诊断依据",
    "fitzpatrick": "fitzpatrick|fitspatrick|skin_type|phototype|皮肤类型|fitzpatrick分型|皮肤分型",
    "diameter_1_mm": "diameter|diameter_1|diameter_mm|size_mm|长径|最大径|直径|长径mm|直径mm",
    "diameter_2_mm": "diameter_2|短径|短径mm",
    "itch": "itch|itching|pruritus|瘙痒|痒",
    "grew": "grew|grown|growth|增大|生长|近期增大",
    "hurt": "hurt|pain|疼痛|痛",
    "changed": "changed|change|变化|形态变化|近期变化",
    "bleed": "bleed|bleeding|出血",
    "elevation": "elevation|elevated|raised|隆起|高出皮面",
    "smoke": "smoke|smoking|smoker|吸烟|吸烟史",
    "drink": "drink|drinking|alcohol|饮酒|饮酒史",
    "skin_cancer_history": "skin_cancer_history|皮肤癌史|皮肤癌家族史|皮肤肿瘤史",
    "cancer_history": "cancer_history|肿瘤史|癌症史|肿瘤家族史",
    "mask": "mask|mask_file|掩膜|标注文件",
}
"""Canonical column -> headers, in normal form, that very probably hold it."""

PRIVATE = re.compile(
    r"姓名|名字|身份证|电话|手机号|联系|住址|地址|邮箱|医生|医师|签名|\bnames?\b|surname|phone|mobile|address|"
    "e-?mail|\bssn\b|doctor|physician",
    re.IGNORECASE,
)
"""Headers that look private: a draft names them among what is not taken."""

GUESSES: tuple[tuple[str, str], ...] = (
    (r"\?|待排|排除|除外|疑似|可能|考虑|怀疑|rule out|r/o|suspect|possible|probable|\bvs\b|versus", ""),
    (r"melanoma|黑色?素瘤", "melanoma"),
    (r"basal cell|\bbcc\b|基底细胞", "basal_cell_carcinoma"),
    (r"bowen|鲍[恩温]|in situ|原位", ""),
    (r"squamous cell|\bscc\b|鳞状细胞癌|鳞癌", "squamous_cell_carcinoma"),
    (r"(?:actinic|solar) keratos|(?:日光|光线|光化)性?角化", "actinic_keratosis"),
    (r"sebor\w* keratos|脂溢性角化", "seborrheic_keratosis"),
    (r"lentigo|日光性黑子|雀斑样痣", "solar_lentigo"),
    (r"dermatofibroma|皮肤纤维瘤", "dermatofibroma"),
    (r"angioma|vascular|pyogenic granuloma|血管瘤|血管性|化脓性肉芽肿", "vascular_lesion"),
    (r"keratosis|角化", ""),
    (r"na?ev(?:us|i)\b|\bmole\b|痣", "nevus"),
)
"""What a draft guesses of a longer text, in this order; empty: leave it to a person."""
