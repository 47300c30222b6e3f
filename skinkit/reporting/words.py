"""Every word of the pages, in English and Simplified Chinese, and how numbers, diagnoses and attributes are said.

One table holds both languages side by side, so neither can be forgotten. Placeholders stand in braces.
"""

from __future__ import annotations

import math
import re
from typing import Any

from skinkit.taxonomy import DIAGNOSES

LANGUAGES = ("en", "zh-CN")

_PAGE = {
    "research_only": (
        "Research software. This is no diagnosis and replaces no examination by a physician.",
        "本软件仅供研究使用。本页内容不是诊断，不能代替医生的检查。",
    ),
    "report.title": ("skinkit report", "skinkit 报告"),
    "report.about": ("Model {model}. Cohorts: {cohorts}.", "模型 {model}。队列：{cohorts}。"),
    "worklist.title": ("Worklist: {cohort}", "待阅清单：{cohort}"),
    "page_of": ("Page {page} of {pages}", "第 {page} 页，共 {pages} 页"),
    "pages": ("Pages", "页码"),
    "contents": ("Contents", "目录"),
    "made_with": ("Made with skinkit {version}.", "由 skinkit {version} 生成。"),
    "too_large": (
        "Left out here: {what} is larger than a page may be ({size}). It lies in {place}.",
        "此处省略：{what}超过页面大小上限（{size}），见 {place}。",
    ),
    "the_figure": ("the figure", "该图"),
    "the_section": ("this section", "本节"),
    "not_made": ("Not made yet: run '{command}'.", "尚未生成：请运行“{command}”。"),
    "none": ("none", "无"),
    "share": ("{value}\u00a0%", "{value}%"),
    "share.over": ("over 99\u00a0%", "超过 99%"),
    "share.under": ("under 1\u00a0%", "不足 1%"),
    "unknown": ("unknown", "未知"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "and_more": ("and {n} more", "另有 {n} 个"),
    "comma": (", ", "、"),
    "pair": ("{name}: {value}", "{name}：{value}"),
    "semicolon": ("; ", "；"),
    "stop": (". ", "。"),
}

_ANSWERS = {
    "answers": ("The answers first", "结论先行"),
    "read_first": ("Read this first", "请先阅读"),
    "how_good": ("How good is it?", "效果如何？"),
    "for_whom": ("For whom does that hold?", "适用于谁？"),
    "how_sure": ("How sure are these numbers?", "这些数字有多可靠？"),
    "what_to_fear": ("What is there to fear?", "需要警惕什么？"),
    "no_metrics": (
        "Nothing has been scored yet, so nothing can be said about how good the program is.",
        "尚未进行任何评估，因此无法说明程序的效果。",
    ),
    "role.development": ("development cohort, held-out folds", "开发队列（留出折）"),
    "role.external": ("external cohort, never trained on", "外部队列（未参与训练）"),
    "role.inference": ("patients without a known diagnosis", "诊断未知的患者"),
    "n_cases": ("{n} lesion photos", "{n} 例病变照片"),
    "n_clusters": ("{n} patients or lesions kept together", "{n} 个不可拆分的患者或病变"),
    "n_malignant": ("{n} malignant", "恶性 {n} 例"),
    "n_benign": ("{n} benign", "良性 {n} 例"),
    "look": ("look {n} at these cases", "第 {n} 次查看这批病例"),
    "primary": ("Primary endpoint, declared beforehand", "事先声明的主要终点"),
    "primary.none": (
        "No primary endpoint was declared before scoring, so none of these figures is more than exploratory.",
        "评分前未声明主要终点，因此这些数字均只具探索性。",
    ),
    "levels": ("Counted by photo; {others}.", "以照片计；{others}。"),
    "levels.one": (
        "by {level} (n = {n}): sensitivity {sensitivity}, specificity {specificity}, AUROC {auroc}",
        "以{level}计（n = {n}）：灵敏度 {sensitivity}，特异度 {specificity}，AUROC {auroc}",
    ),
    "levels.joined": ("; ", "；"),
    "sure_looks": (
        "How often these cases were asked before: {where}. A set answers honestly only as long as nothing was chosen "
        "because of its answers.",
        "这批病例此前被查看的次数：{where}。只有不根据其结果作任何选择，测试集的答案才可信。",
    ),
    "where.look": ("{cohort} look {n}", "{cohort} 第 {n} 次"),
    "plain.sensitivity": (
        "Of 100 photos of malignant lesions about {value} raise the alarm (95 % interval {lower} to {upper}).",
        "每 100 张恶性病变照片中，约 {value} 张会报警（95% 区间 {lower} 至 {upper}）。",
    ),
    "plain.specificity": (
        "Of 100 photos of benign lesions about {value} raise none (95 % interval {lower} to {upper}).",
        "每 100 张良性病变照片中，约 {value} 张不报警（95% 区间 {lower} 至 {upper}）。",
    ),
    "insufficient": ("too few cases for a number", "例数太少，不给出数值"),
    "interval": ("95 % interval {lower} to {upper}", "95% 区间 {lower} 至 {upper}"),
    "no_interval": ("no interval can be given", "无法给出区间"),
    "endpoint.sensitivity": ("malignant lesions that raise the alarm (sensitivity)", "恶性病变报警率（灵敏度）"),
    "endpoint.specificity": ("benign lesions without alarm (specificity)", "良性病变不报警率（特异度）"),
    "endpoint.auroc": ("ranking malignant above benign (AUROC)", "恶性排在良性之前的能力（AUROC）"),
    "alarm_rule": (
        "The alarm rings when the suspicion of malignancy is at least {threshold}. Counted as malignant: {classes} "
        "(set '{set}').",
        "恶性可疑度达到 {threshold} 时报警。计为恶性的诊断：{classes}（集合“{set}”）。",
    ),
    "diagnosis_line": (
        "Naming the diagnosis among {k}: right class first in {bacc} of the cases, each class counted equally "
        "(balanced accuracy), macro AUROC {auroc}.",
        "在 {k} 类诊断中命名：各类等权时首选正确率（平衡准确率）{bacc}，宏平均 AUROC {auroc}。",
    ),
    "sure_intervals": (
        "Intervals are 95 % intervals from drawing {clusters} anew with replacement. They tell chance only: not "
        "another camera, another clinic or other patients.",
        "区间为对{clusters}有放回重抽样得到的 95% 区间，仅反映随机波动，不包括更换相机、医院或患者带来的差异。",
    ),
    "sure_clusters": ("whole patients", "患者整体"),
    "sure_exact": (
        "Where every lesion was called right, resampling knows no doubt; the exact binomial interval is given instead.",
        "若全部判断正确，重抽样得不到波动，此时改用精确二项区间。",
    ),
    "sure_external": (
        "{n} external cohort(s) were scored with the trained model as it was, nothing refitted.",
        "{n} 个外部队列使用原模型评分，未做任何重新拟合。",
    ),
    "sure_thresholds": (
        "Thresholds were frozen before scoring: {source}.",
        "阈值在评分前已固定：{source}。",
    ),
    "sure_frozen_veto": ("the alarm threshold is written into the model", "报警阈值写在模型中"),
    "sure_frozen_rule": (
        "the alarm threshold was chosen on validation rows by the rule {rule}",
        "报警阈值按规则 {rule} 在验证集上选定",
    ),
    "sure_frozen_youden": ("class thresholds come from validation rows", "各类阈值来自验证集"),
    "who.patients": (
        "{images} photos of {lesions} lesions of {patients} patients",
        "{patients} 名患者 {lesions} 处病变的 {images} 张照片",
    ),
    "who.images": ("{images} photos", "{images} 张照片"),
    "who.age": (
        "age {median} years at the median ({low} to {high}); unknown for {missing}",
        "年龄中位数 {median} 岁（{low} 至 {high}）；未知 {missing} 例",
    ),
    "who.no_age": ("age unknown for all", "年龄全部未知"),
    "who.sex": ("{female} female, {male} male, {missing} unknown", "女 {female}，男 {male}，未知 {missing}"),
    "who.no_sex": ("sex unknown for all", "性别全部未知"),
    "who.modality": ("photos: {values}", "照片类型：{values}"),
    "who.fitzpatrick": ("skin types (Fitzpatrick): {values}", "皮肤类型（Fitzpatrick）：{values}"),
    "who.no_fitzpatrick": ("skin type unknown for all", "皮肤类型全部未知"),
    "who.confirmed": ("diagnosis confirmed by: {values}", "确诊方式：{values}"),
    "who.diagnoses": ("diagnoses: {values}", "诊断：{values}"),
    "who.masked": ("outlines drawn by '{segmenter}'", "轮廓由“{segmenter}”绘制"),
    "cohort": ("Cohort", "队列"),
    "population": ("Population", "人群"),
    "role": ("Role", "角色"),
}

_WARNINGS = {
    "warn.leakage_allowed": (
        "Training and test cases overlap, and this was allowed with a reason: {where}. Figures of that cohort are too "
        "good by an unknown amount.",
        "训练与测试病例有重叠，且经说明理由后放行：{where}。该队列的数字偏乐观，程度未知。",
    ),
    "warn.phantoms": (
        "Phantoms, drawn pictures of made-up patients: {where}. Their figures say nothing about skin.",
        "以下队列为模拟体（绘制的图片，虚构的患者）：{where}。其数字与真实皮肤无关。",
    ),
    "warn.chance": (
        "Not shown to be better than chance at telling malignant from benign (AUROC): {where}.",
        "区分良恶性的能力（AUROC）未能证明优于随机：{where}。",
    ),
    "warn.otsu": (
        "The outlines were drawn by Otsu's threshold, a baseline without training. It reaches a mean overlap (IoU) of "
        "0.67 on dermoscopic test images and 0.25 on phone photos: look at the outlines before trusting what was "
        "measured inside.",
        "轮廓由 Otsu 阈值法绘制，这是未经训练的基线方法。其平均重叠度（IoU）在皮肤镜测试图像上为 0.67，"
        "在手机照片上仅 0.25：在相信轮廓内的测量值之前，请先核对轮廓。",
    ),
    "warn.no_external": (
        "No external cohort was scored. Figures from the hospital that trained the model usually fall elsewhere.",
        "没有外部队列评分。在训练来源医院得到的数字，换到别处通常会下降。",
    ),
    "warn.missed": (
        "Of 100 photos of malignant lesions, so many may raise no alarm as far as these data can tell: {where}.",
        "就现有数据而言，每 100 张恶性病变照片可能漏报：{where}。",
    ),
    "warn.few_malignant": (
        "Few malignant cases, so the sensitivity is a rough guess: {where}.",
        "恶性病例少，灵敏度只是粗略估计：{where}。",
    ),
    "warn.few_benign": (
        "Few benign cases, so the specificity is a rough guess: {where}.",
        "良性病例少，特异度只是粗略估计：{where}。",
    ),
    "warn.drop": (
        "The AUROC for malignancy falls outside the hospital that trained the model: {where}.",
        "离开训练来源医院后，恶性 AUROC 下降：{where}。",
    ),
    "warn.prevalence": (
        "Far more cancers than in a clinic (share of malignant cases: {where}). Where cancer is rarer, more of the "
        "alarms are false.",
        "恶性比例远高于门诊（恶性占比：{where}）。恶性越少见，误报占报警的比例越高。",
    ),
    "warn.not_scored": (
        "Predicted cases that were not scored: {where}.",
        "已预测但未计分的病例：{where}。",
    ),
    "warn.measured_iou": (
        "Outlines compared with those drawn by people, mean overlap (IoU): {where}.",
        "与人工轮廓相比的平均重叠度（IoU）：{where}。",
    ),
    "warn.mask_failed": (
        "Lesions without a usable outline, measured over the whole photo: {where}.",
        "未找到可用轮廓、按整张照片测量的病变：{where}。",
    ),
    "warn.failed": (
        "Photos that could not be processed and were never judged: {where}.",
        "无法处理、程序未作判断的照片：{where}。",
    ),
    "warn.pending": (
        "Rows that wait for their photo, or photos for their row: {where}.",
        "等待照片的表格行，或等待表格行的照片：{where}。",
    ),
    "warn.attributes": (
        "Cases that lack something the model asks for: {where}.",
        "缺少模型所需信息的病例：{where}。",
    ),
    "warn.skin_types": (
        "Dark skin (Fitzpatrick V and VI) is hardly represented among the known skin types: {where}.",
        "在皮肤类型已知的病例中，深色皮肤（Fitzpatrick V、VI 型）很少：{where}。",
    ),
    "warn.skin_unknown": (
        "The skin type is not known, so nothing can be said about dark skin: {where}.",
        "皮肤类型未知，无法说明在深色皮肤上的表现：{where}。",
    ),
    "warn.histology": (
        "Diagnoses known to be confirmed by histopathology are only a part: {where}.",
        "仅部分诊断经组织病理学证实：{where}。",
    ),
    "where.cohort": ("{cohort}", "{cohort}"),
    "warn.shortcuts": (
        "Something that is not the lesion tells malignant from benign, and the model may use it: {where}.",
        "病变以外的信息即可区分良恶性，模型可能利用了它：{where}。",
    ),
    "warn.shortcuts_some": (
        "Weaker cues that are not the lesion tell malignancy, too: {where}.",
        "病变以外还有较弱的线索与恶性相关：{where}。",
    ),
    "warn.confirmation": (
        "Malignant and benign diagnoses were not confirmed the same way: {where}.",
        "恶性与良性诊断的确诊方式不同：{where}。",
    ),
    "warn.near": (
        "Scored photos that are nearly the same picture as a training photo, tolerated up to the limit: {where}.",
        "与训练照片几乎相同的评分照片（在上限内予以容忍）：{where}。",
    ),
    "warn.gaps": (
        "Subgroups in which the model does clearly worse or better than in the rest (after correction for the number "
        "of comparisons): {where}.",
        "模型表现明显异于其余病例的亚组（已按比较次数校正）：{where}。",
    ),
    "warn.drift": (
        "The inputs outside are unlike those the model learnt from: {where}.",
        "外部数据的输入与训练数据不同：{where}。",
    ),
    "warn.looks": (
        "The same test cases were looked at several times; figures chosen after the first look are too good: {where}.",
        "同一批测试病例被多次查看；首次查看之后选择的数字偏乐观：{where}。",
    ),
    "warn.unlike": (
        "Cases more unlike the training data than 99 % of the validation cases: {where}.",
        "与训练数据的差异超过 99% 验证病例的病例：{where}。",
    ),
    "where.cues": ("{cohort} {cues}", "{cohort} {cues}"),
    "where.gaps": ("{cohort} {gaps}", "{cohort} {gaps}"),
    "gap": (
        "{subgroup}: {metric} {estimate} against {rest}",
        "{subgroup}：{metric} {estimate}，其余 {rest}",
    ),
    "where.drift": (
        "{cohort} {n} of {total} inputs shifted, cohorts told apart with AUROC {auroc}",
        "{cohort} {total} 项输入中 {n} 项偏移，可区分队列的 AUROC {auroc}",
    ),
    "cue.told": ("{cue} (AUROC {auroc})", "{cue}（AUROC {auroc}）"),
    "where.leakage_allowed": ("{cohort}: “{reason}”", "{cohort}：“{reason}”"),
    "where.missed": ("{cohort} up to {missed}", "{cohort} 最多 {missed} 张"),
    "where.n": ("{cohort} {n}", "{cohort} {n} 例"),
    "where.chance": (
        "{cohort} {auroc} (95 % interval {lower} to {upper})",
        "{cohort} {auroc}（95% 区间 {lower} 至 {upper}）",
    ),
    "where.drop": ("{internal} {before}, {external} {after}", "{internal} {before}，{external} {after}"),
    "where.share": ("{cohort} {share}", "{cohort} {share}"),
    "where.reasons": ("{cohort} {n} ({reasons})", "{cohort} {n} 例（{reasons}）"),
    "where.measured_iou": ("{cohort} {iou} (n = {n})", "{cohort} {iou}（n = {n}）"),
    "where.attributes": (
        "{cohort} {n} of {total} (most often {names})",
        "{cohort} {total} 例中 {n} 例（最常缺：{names}）",
    ),
    "where.of": ("{cohort} {n} of {total}", "{cohort} {total} 例中 {n} 例"),
}

_TRUST = {
    "shortcuts": ("Shortcuts: what tells malignancy without the lesion", "捷径：不看病变即可判断恶性的线索"),
    "shortcuts.intro": (
        "Each line is what a reader would score who never sees the lesion. Learnt figures are out of fold, patients "
        "kept together; a cue held constant shows what is left of the model.",
        "每行表示完全不看病变时能得到的成绩。需要学习的数字均为折外结果，同一患者不拆分；“固定该线索”表示模型剩余的能力。",
    ),
    "set_name": ("Malignant means the set '{set}'.", "“恶性”指集合“{set}”。"),
    "shortcuts.none": ("No cue differs between these cases.", "这些病例之间没有可比较的线索。"),
    "shortcuts.not_made": ("Not audited.", "未审查。"),
    "shortcuts.more": ("All cues ({n})", "全部线索（{n}）"),
    "cue": ("Looked at instead of the lesion", "代替病变的线索"),
    "cue.alike": ("{cue}, and {n} that say the same", "{cue}，另有 {n} 项与之一致"),
    "cue.known": ("whether it is known: {name}", "是否已知：{name}"),
    "cue.unsure": ("answered with 'not known': {name}", "回答“不清楚”：{name}"),
    "cue.n_absent": ("how many attributes are missing", "缺失信息的项数"),
    "cue.patient_block": ("whether the patient's questionnaire is there", "是否有患者问卷"),
    "cue.together.missing": ("all that is missing, together", "全部缺失情况合计"),
    "cue.together.file": ("all properties of the file, together", "全部文件属性合计"),
    "cue.together.origin": ("all of the origin, together", "全部来源信息合计"),
    "cue.together.confirmation": ("how the diagnosis was confirmed, together", "全部确诊方式合计"),
    "cue.together.everything": ("all of this together, never the lesion", "以上全部合计（不看病变）"),
    "cue.width_px": ("width of the photo", "照片宽度"),
    "cue.height_px": ("height of the photo", "照片高度"),
    "cue.aspect": ("shape of the photo", "照片长宽比"),
    "cue.bytes_per_pixel": ("file size per pixel", "每像素文件大小"),
    "cue.jpeg_quality": ("JPEG quality", "JPEG 质量"),
    "cue.dark_border": ("black border", "黑色边框"),
    "cue.corner_darkness": ("dark corners", "暗角"),
    "cue.file_format": ("file format", "文件格式"),
    "cue.camera": ("camera named in the file", "文件中的相机型号"),
    "cue.exif": ("camera data in the file", "是否含相机信息"),
    "cue.cohort": ("cohort", "队列"),
    "cue.centre": ("centre", "中心"),
    "cue.device": ("device", "设备"),
    "cue.modality": ("kind of photo", "照片类型"),
    "cue.confirmed_by": ("how the diagnosis was confirmed", "确诊方式"),
    "verdict": ("Verdict", "结论"),
    "verdict.strong": ("strong shortcut", "强捷径"),
    "verdict.some": ("some shortcut", "较弱捷径"),
    "verdict.open": ("cannot be ruled out", "无法排除"),
    "verdict.none": ("none seen", "未见"),
    "verdict.insufficient_n": ("too few cases", "例数太少"),
    "held_constant": ("Model, cue held constant", "固定该线索后的模型"),
    "drift": ("From inside to outside", "从内部到外部"),
    "drift.intro": (
        "The fall from the development cohort to each external cohort, with the interval of the difference of two "
        "independent groups of patients; once as it is, once with the inside weighted to the same mix of diagnoses.",
        "从开发队列到各外部队列的下降及其区间（两组独立患者之差）；分别为原样，以及将内部按外部诊断构成加权。",
    ),
    "drift.none": ("There is no external cohort to compare with.", "没有可比较的外部队列。"),
    "drift.inside": ("inside", "内部"),
    "drift.outside": ("outside", "外部"),
    "drift.fall": ("fall", "下降"),
    "drift.as_is": ("as it is", "原样"),
    "drift.adjusted": ("same mix of diagnoses", "相同诊断构成"),
    "drift.domain": (
        "Who sees only the inputs ({columns} columns) tells which cohort a case is from with AUROC {value} (0.5: not "
        "at all).",
        "仅凭输入（{columns} 列）判断病例来自哪个队列的 AUROC 为 {value}（0.5 表示无法判断）。",
    ),
    "drift.inputs": ("Inputs that differ most ({n} of {total} shifted)", "差异最大的输入（{total} 项中 {n} 项偏移）"),
    "drift.column": ("Input", "输入"),
    "drift.smd": ("standardised difference", "标准化差异"),
    "drift.psi": ("population stability index", "群体稳定性指数"),
    "drift.p": ("p (Holm)", "p（Holm 校正）"),
    "drift.shifted": ("shifted", "偏移"),
    "gaps": ("Gaps between subgroups", "亚组差距"),
    "gaps.none": (
        "None of {n} comparisons of a subgroup with the rest stands out.",
        "{n} 项亚组与其余的比较均无突出差异。",
    ),
    "level.lesion": ("lesion", "病变"),
    "level.patient": ("patient", "患者"),
}

_STANDARDS = {
    "standard.title": ("{standard}: checklist", "{standard} 清单"),
    "standard.about": (
        "Model {model}. What the pipeline knows is filled in with its source; the rest is marked for a person. Items "
        "are told in our own words: read the standard itself before submitting.",
        "模型 {model}。流程已知的内容已填入并注明来源，其余标出由人填写。条目为我们自己的表述，提交前请阅读原标准。",
    ),
    "standard.counts": (
        "{filled} items filled, {part} in part, {person} to be written by a person",
        "已填 {filled} 项，部分填写 {part} 项，待人工撰写 {person} 项",
    ),
    "standard.item": ("Item", "条目"),
    "standard.asks": ("What is asked for", "要求"),
    "standard.known": ("What is known", "已知内容"),
    "standard.filled": ("filled", "已填"),
    "standard.part": ("To be completed by a person.", "需由人补充。"),
    "standard.person": ("To be written by a person.", "需由人撰写。"),
    "standard.section.title": ("Title and abstract", "标题与摘要"),
    "standard.section.introduction": ("Introduction", "引言"),
    "standard.section.methods": ("Methods", "方法"),
    "standard.section.data": ("Data", "数据"),
    "standard.section.truth": ("Reference standard", "参考标准"),
    "standard.section.partitions": ("Partitions", "数据划分"),
    "standard.section.segmentation": ("Segmentation", "分割"),
    "standard.section.features": ("Features", "特征"),
    "standard.section.model": ("Model", "模型"),
    "standard.section.training": ("Training", "训练"),
    "standard.section.evaluation": ("Evaluation", "评价"),
    "standard.section.results": ("Results", "结果"),
    "standard.section.discussion": ("Discussion", "讨论"),
    "standard.section.other": ("Other information", "其他信息"),
    "known.settings": ("{what}: {settings}", "{what}：{settings}"),
    "known.of.masks": ("outlines", "轮廓"),
    "known.of.features": ("radiomic features", "影像组学特征"),
    "known.of.fused": ("fused tables", "合并表"),
    "known.of.split": ("split", "数据划分"),
    "known.of.models": ("training", "训练"),
    "known.synthetic": ("{cohort}: all pictures are drawn (phantoms)", "{cohort}：全部为绘制图片（模拟体）"),
    "known.no_synthetic": ("{cohort}: not declared as synthetic", "{cohort}：未声明为合成图像"),
    "known.missing": (
        "An absent category becomes zeros, an absent number the training rows' median or zero, fitted per fold.",
        "缺失的类别编码为零；缺失的数值以训练集中位数或零代替，按折拟合。",
    ),
    "known.missing_counts": ("not known for: {values}", "未知例数：{values}"),
    "known.classes": ("diagnoses told apart: {classes}", "可区分的诊断：{classes}"),
    "known.iou": (
        "mean overlap with outlines by people (IoU) {value}, n = {n}",
        "与人工轮廓的平均重叠度（IoU）{value}，n = {n}",
    ),
    "known.signature": (
        "Chosen per fold on its training rows alone; features that repeat a chosen one (|Spearman r| above the limit) "
        "are dropped.",
        "按折仅用训练数据选择；与已选特征重复（|Spearman r| 超过上限）的特征被剔除。",
    ),
    "known.sizes": (
        "fold {fold}: {n_train} for training, {n_validation} for validation, {n_held_out} held out",
        "第 {fold} 折：训练 {n_train}，验证 {n_validation}，留出 {n_held_out}",
    ),
    "known.leakage": (
        "{n} scored cases shared with training, {near} near-identical photos (compared: {kinds})",
        "与训练共享的评分病例 {n} 例，近似相同照片 {near} 张（比较项：{kinds}）",
    ),
    "known.leakage_allowed": ("leakage allowed because: {reason}", "放行泄漏的理由：{reason}"),
    "known.predictors": ("attributes read: {names}", "读取的信息：{names}"),
    "known.no_weights": ("no pretrained weights; seed {seed}", "未使用预训练权重；随机种子 {seed}"),
    "known.ensemble": (
        "{folds} fold(s); a case of another cohort gets the mean of the calibrated folds, a development case only the "
        "fold that held it out",
        "{folds} 折；其他队列的病例取各校准折的平均，开发队列病例仅用将其留出的折",
    ),
    "known.updating": ("the model was scored as trained; nothing was updated", "模型按训练结果评分，未作更新"),
    "known.identity": ("identity of the model: {identity}", "模型标识：{identity}"),
    "known.metrics": ("{names}", "{names}"),
    "known.intervals": (
        "95 % intervals from {n} bootstrap replicates that draw patients; no figure from fewer than {minimum} cases",
        "以患者为单位自助抽样 {n} 次得到 95% 区间；少于 {minimum} 例时不给数值",
    ),
    "known.no_external": ("no external cohort was scored", "没有外部队列评分"),
    "known.explanations": ("{n} cases explained ({methods})", "已解释 {n} 例（{methods}）"),
    "known.failures": ("{n} cases failed", "失败 {n} 例"),
    "known.novelty": (
        "{n} of {total} cases more unlike the training data than 99 % of the validation cases",
        "{total} 例中 {n} 例与训练数据的差异超过 99% 的验证病例",
    ),
}

_FLOW = {
    "flow": ("Where every case went", "每个病例的去向"),
    "flow.intro": (
        "From what lay in the folder to what was scored; each loss with its reason.",
        "从文件夹中的内容到最终计分，每一处减少都注明原因。",
    ),
    "flow.alt": ("Flow of the cases of {cohort}", "{cohort} 的病例流程"),
    "step.found": ("Photos and table rows found", "找到的照片与表格行"),
    "step.usable": ("Usable photos", "可用照片"),
    "step.outlined": ("Outlines drawn", "已绘制轮廓"),
    "step.measured": ("Lesions measured (radiomics)", "已测量病变（影像组学）"),
    "step.fused": ("Cases (one photo stands for each)", "病例（每例以一张照片代表）"),
    "step.predicted": ("Cases predicted", "已预测病例"),
    "step.scored": ("Cases scored against the diagnosis", "与诊断对照计分的病例"),
    "step.labelled": ("of them with a diagnosis: {n}", "其中有诊断：{n}"),
    "step.mask_failed": ("without a usable outline, kept: {n}", "无可用轮廓但保留：{n}"),
    "step.people": ("{patients} patients, {lesions} lesions", "患者 {patients}，病变 {lesions}"),
    "status": ("Outcome", "结果"),
    "status.excluded": ("excluded", "排除"),
    "status.failed": ("failed", "失败"),
    "status.pending": ("pending", "等待"),
    "status.not_predicted": ("not predicted", "未预测"),
    "status.not_scored": ("not scored", "未计分"),
    "status.other_view": ("other photo of the same case", "同一病例的其他照片"),
    "reason": ("Reason", "原因"),
    "count": ("Count", "数量"),
    "step": ("Step", "步骤"),
    "losses": ("Losses as a table: {cohort}", "减少情况列表：{cohort}"),
    "no_losses": ("Nothing was excluded and nothing failed.", "没有排除，也没有失败。"),
}

_REASONS = {
    "reason.image_missing": ("the photo is not there", "照片不存在"),
    "reason.image_absent": ("the photo has not arrived", "照片尚未到位"),
    "reason.image_unnamed": ("the table row names no photo", "表格行没有写明照片"),
    "reason.image_ambiguous": ("the photo's name fits several files", "照片名称对应多个文件"),
    "reason.image_changed": ("the photo changed during the run", "照片在运行中被改动"),
    "reason.path_outside_root": ("the photo's name leads out of the folder", "照片路径超出文件夹"),
    "reason.folder_unreadable": ("a folder that may not be opened", "无权打开的文件夹"),
    "reason.row_absent": ("no table row names this photo", "没有表格行对应该照片"),
    "reason.image_empty": ("the photo file is empty", "照片文件为空"),
    "reason.image_truncated": ("the photo file is cut short", "照片文件不完整"),
    "reason.image_unreadable": ("the file is no readable picture", "文件不是可读取的图片"),
    "reason.image_unsupported": ("a kind of picture that is not read", "不支持的图片类型"),
    "reason.image_too_large": ("the photo is too large", "照片过大"),
    "reason.image_multiframe": ("an animation or a picture series", "动画或多帧图像"),
    "reason.image_without_pixels": ("a DICOM object without a picture", "没有像素数据的 DICOM"),
    "reason.image_not_finite": ("the photo has impossible values", "照片含无效数值"),
    "reason.unreadable": ("the file could not be read", "文件无法读取"),
    "reason.not_dermoscopic": (
        "no dermoscopic photo: left out by the study's selection",
        "非皮肤镜照片：按研究纳入标准排除",
    ),
    "reason.subject_unknown": (
        "age, sex or site not known: left out by the study's selection",
        "年龄、性别或部位未知：按研究纳入标准排除",
    ),
    "reason.diagnosis_unconfirmed": (
        "no confirmed diagnosis: left out by the study's selection",
        "诊断未确认：按研究纳入标准排除",
    ),
    "reason.duplicate_content": ("the same photo again", "重复照片"),
    "reason.duplicate_image": ("the same photo again", "重复照片"),
    "reason.duplicate_row": ("the same table row again", "重复的表格行"),
    "reason.duplicate_id": ("table rows that contradict each other", "表格行相互矛盾"),
    "reason.mask_missing": ("the outline file is not there", "轮廓文件不存在"),
    "reason.mask_changed": ("the outline file changed during the run", "轮廓文件在运行中被改动"),
    "reason.mask_unreadable": ("the outline file is not readable", "轮廓文件无法读取"),
    "reason.mask_truncated": ("the outline file is cut short", "轮廓文件不完整"),
    "reason.mask_unsupported": ("the outline file is of a kind that is not read", "轮廓文件类型不受支持"),
    "reason.mask_too_large": ("the outline file is too large", "轮廓文件过大"),
    "reason.mask_multiframe": ("the outline file holds several pictures", "轮廓文件含多帧图像"),
    "reason.mask_without_pixels": ("the outline file holds no picture", "轮廓文件没有图像"),
    "reason.mask_size_mismatch": ("the outline does not fit the photo", "轮廓与照片尺寸不符"),
    "reason.mask_empty": ("the outline is empty", "轮廓为空"),
    "reason.mask_full_frame": ("the outline covers the whole photo", "轮廓覆盖整张照片"),
    "reason.mask_single_pixel": ("the outlined area is too small to measure", "轮廓区域过小，无法测量"),
    "reason.mask_line": ("the outlined area is too narrow to measure", "轮廓区域过窄，无法测量"),
    "reason.too_many_levels": ("more grey levels than can be measured", "灰度级过多，无法测量"),
    "reason.truth_mask_absent": ("nobody drew an outline", "没有人工绘制的轮廓"),
    "reason.no_heatmap": ("no heatmap could be made", "无法生成热图"),
    "reason.features_missing": ("the lesion could not be measured", "病变无法测量"),
    "reason.internal_error": ("an unexpected error of the program", "程序意外错误"),
    "reason.worker_died": ("the computer ran out of memory", "计算机内存不足"),
    "reason.out_of_memory": ("the computer ran out of memory", "计算机内存不足"),
    "reason.timeout": ("it took too long", "处理超时"),
    "reason.cases_failed": ("none of its photos could be assessed", "其照片均无法评估"),
    "reason.trained_on": ("trained on, so not predicted", "用于训练，故不预测"),
    "reason.left_out_of_the_split": ("left out of the split", "未纳入数据划分"),
    "reason.unlabelled": ("no diagnosis known", "无已知诊断"),
    "reason.several_diagnoses": ("photos with different diagnoses", "照片的诊断不一致"),
    "reason.no_class": ("a diagnosis the model does not know", "模型不认识的诊断"),
    "reason.not_held_out_or_not_measured": ("trained on, or not measured", "用于训练或未测量"),
    "reason.not_predicted": ("no prediction", "没有预测"),
    "reason.other_view": ("another photo stands for the case", "由另一张照片代表该病例"),
    "reason.unsaid": ("no reason given", "未说明原因"),
}

_LESIONS = {
    "overlap": ("How close the outlines come to those people drew", "轮廓与人工勾画的接近程度"),
    "overlap.note": (
        "Overlap of the masks with those people drew, over photos the segmenter has not learnt from; the intervals are "
        "over patients.",
        "掩膜与人工勾画的重叠程度，仅计分割器未学习过的照片；95% 区间按患者计算。",
    ),
    "overlap.segmenter": ("Outlines drawn by", "轮廓来源"),
    "overlap.mean": ("mean (95 % interval)", "均值（95% 区间）"),
    "overlap.median": ("median (95 % interval)", "中位数（95% 区间）"),
    "metric.iou": ("IoU", "交并比（IoU）"),
    "metric.dice": ("Dice", "Dice 系数"),
    "lesions": ("The most instructive lesions", "最有启发的病变"),
    "lesions.intro": (
        "Each photo with the outline that was measured, and what the program looked at.",
        "每张照片附测量所用轮廓，以及程序关注的部位。",
    ),
    "lesions.highest": ("Most suspicious", "最可疑"),
    "lesions.wrong": ("Wrong calls", "判断错误"),
    "lesions.undecided": ("Most undecided", "最难判断"),
    "lesions.sample": ("A sample (nothing predicted yet)", "示例（尚未预测）"),
    "lesions.left": (
        "{shown} of {total} cases are shown; raise --max-lesions for more.",
        "共 {total} 例，显示 {shown} 例；提高 --max-lesions 可显示更多。",
    ),
    "truth": ("Diagnosis", "诊断"),
    "truth.unknown": ("diagnosis unknown", "诊断未知"),
    "said": ("Program", "程序"),
    "missed": ("missed: malignant without alarm", "漏报：恶性未报警"),
    "false_alarm": ("false alarm", "误报"),
    "suspicion": ("suspicion {value}", "可疑度 {value}"),
    "undecided": ("undecidedness {value}", "不确定度 {value}"),
    "alt.photo": ("Photo of lesion {name}", "病变 {name} 的照片"),
    "alt.outline": ("Lesion {name} with its outline", "病变 {name} 及其轮廓"),
    "alt.heatmap": ("Lesion {name}: what the program looked at", "病变 {name}：程序关注的部位"),
    "photo": ("Photo", "照片"),
    "outline": ("Outline", "轮廓"),
    "heatmap": ("What the program looked at", "程序关注的部位"),
    "heatmap.key": ("yellow: strongest", "黄色：影响最强"),
    "no_heatmap": (
        "Not worked out: 'skinkit explain --limit 0' makes one for every lesion.",
        "尚未生成：运行“skinkit explain --limit 0”可为全部病变生成热图。",
    ),
    "no_heatmap_model": ("There is no heatmap for this lesion.", "该病变没有热图。"),
    "no_outline": ("No outline of the lesion was found.", "未找到病变轮廓。"),
    "no_photo": ("The photo could not be read: {reason}.", "照片无法读取：{reason}。"),
}

_METRICS = {
    "metrics": ("Figures with intervals", "带区间的数值"),
    "metrics.malignancy": ("Malignant or benign", "良恶性"),
    "metrics.classes": ("Each diagnosis against all others", "各诊断对其余诊断"),
    "metrics.overall": ("All diagnoses together", "全部诊断"),
    "metrics.subgroups": ("Subgroups: malignant or benign", "亚组：良恶性"),
    "metrics.full": ("Every figure ({n} rows)", "全部数值（{n} 行）"),
    "metrics.rows": ("rows {first} to {last}", "第 {first} 至 {last} 行"),
    "metrics.note": (
        "Macro is the plain mean over classes, weighted the mean weighted by their cases, micro pools all decisions.",
        "宏平均为各类的简单平均；加权平均按病例数加权；微平均合并全部判断。",
    ),
    "radiomic_heatmap": ("Radiomic features of the cohort", "队列的影像组学特征"),
    "radiomic_heatmap.intro": (
        "One column per lesion, one row per feature, alike ones side by side. Red is above the cohort's mean, blue "
        "below.",
        "每列一处病变，每行一个特征，相似者相邻。红色高于队列均值，蓝色低于均值。",
    ),
    "radiomic_heatmap.sample": ("{shown} of {total} lesions, evenly drawn.", "{total} 处病变中均匀抽取 {shown} 处。"),
    "figure.roc": ("ROC curves", "ROC 曲线"),
    "figure.pr": ("Precision and recall", "精确率与召回率"),
    "figure.confusion": ("Confusion matrix: truth in rows, program in columns", "混淆矩阵：行为真实诊断，列为程序判断"),
    "figure.reliability": ("Calibration: what was foretold and what came", "校准：预测与实际"),
    "figure.decision": ("Decision curve: net benefit of acting on the program", "决策曲线：按程序行动的净获益"),
    "figure.referral": ("Referral curve: what is gained by referring the undecided", "转诊曲线：转诊不确定病例的收益"),
    "figure.subgroups": ("Subgroups: AUROC, sensitivity, specificity", "亚组：AUROC、灵敏度、特异度"),
    "figure.mean probability of malignancy": ("mean probability of malignancy", "平均恶性概率"),
    "figure.observed share of malignant cases": ("observed share of malignant cases", "实际恶性比例"),
    "figure.before calibration": ("before calibration", "校准前"),
    "figure.as used": ("as used", "实际使用"),
    "figure.treat nobody": ("treat nobody", "全不处理"),
    "figure.treat everybody": ("treat everybody", "全部处理"),
    "figure.model (95 % interval)": ("model (95 % interval)", "模型（95% 区间）"),
    "figure.veto": ("veto", "报警阈值"),
    "figure.probability of malignancy from which to treat": (
        "probability of malignancy from which to treat",
        "开始处理的恶性概率阈值",
    ),
    "figure.net benefit": ("net benefit", "净获益"),
    "figure.accuracy of the cases kept": ("accuracy of the cases kept", "保留病例的准确率"),
    "figure.malignant cases called or referred": ("malignant cases called or referred", "报警或转诊的恶性病例"),
    "figure.veto: malignant calls alone": ("veto: malignant calls alone", "报警阈值：仅恶性报警"),
    "figure.model's own referral rule": ("model's own referral rule", "模型自身的转诊规则"),
    "figure.share referred": ("share referred", "转诊比例"),
    "figure.share": ("share", "比例"),
    "figure.AUROC": ("AUROC", "AUROC"),
    "figure.sensitivity (veto)": ("sensitivity (alarm)", "灵敏度（报警）"),
    "figure.specificity (veto)": ("specificity (alarm)", "特异度（报警）"),
    "figure.subgroup_counts": ("(n = {n}, {malignant} malignant)", "（n = {n}，恶性 {malignant}）"),
    "metric": ("Measure", "指标"),
    "class": ("Class", "类别"),
    "rule": ("Rule", "规则"),
    "estimate": ("Estimate", "估计值"),
    "interval95": ("95 % interval", "95% 区间"),
    "n": ("n", "例数"),
    "positive": ("of the class", "该类例数"),
    "clusters": ("patients", "患者数"),
    "threshold": ("Threshold", "阈值"),
    "threshold_source": ("Threshold from", "阈值来源"),
    "subgroup": ("Subgroup", "亚组"),
    "average": ("Average", "平均方式"),
    "average.none": ("", ""),
    "average.macro": ("macro", "宏平均"),
    "average.micro": ("micro", "微平均"),
    "average.weighted": ("weighted", "加权平均"),
    "rule.none": ("no threshold", "无阈值"),
    "rule.argmax": ("most probable class", "概率最高的类别"),
    "rule.frozen_threshold": ("frozen threshold", "固定阈值"),
    "rule.veto": ("alarm threshold", "报警阈值"),
    "rule.conformal_set": ("conformal prediction set", "保形预测集"),
    "metric.auroc": ("AUROC", "AUROC"),
    "metric.average_precision": ("average precision", "平均精确率"),
    "metric.sensitivity": ("sensitivity", "灵敏度"),
    "metric.specificity": ("specificity", "特异度"),
    "metric.balanced_accuracy": ("balanced accuracy", "平衡准确率"),
    "metric.accuracy": ("accuracy", "准确率"),
    "metric.precision": ("precision", "精确率"),
    "metric.f1": ("F1", "F1"),
    "metric.ppv": ("positive predictive value", "阳性预测值"),
    "metric.npv": ("negative predictive value", "阴性预测值"),
    "metric.brier": ("Brier score", "Brier 分数"),
    "metric.log_loss": ("log loss", "对数损失"),
    "metric.ece": ("expected calibration error", "期望校准误差"),
    "metric.ece_raw": ("expected calibration error before calibration", "校准前期望校准误差"),
    "metric.brier_raw": ("Brier score before calibration", "校准前 Brier 分数"),
    "metric.log_loss_raw": ("log loss before calibration", "校准前对数损失"),
    "metric.calibration_slope": ("calibration slope (1 is right)", "校准斜率（1 为理想）"),
    "metric.calibration_intercept": ("calibration intercept (0 is right)", "校准截距（0 为理想）"),
    "metric.calibration_slope_raw": ("calibration slope before calibration", "校准前斜率"),
    "metric.calibration_intercept_raw": ("calibration intercept before calibration", "校准前截距"),
    "metric.mcc": ("Matthews correlation", "马修斯相关系数"),
    "metric.pauc_above_80_sensitivity": (
        "partial AUROC above 80 % sensitivity (0 to 0.2)",
        "灵敏度 80% 以上部分 AUROC（0 至 0.2）",
    ),
    "metric.sensitivity_at_95_specificity": ("sensitivity at 95 % specificity", "特异度 95% 时的灵敏度"),
    "metric.sensitivity_at_90_specificity": ("sensitivity at 90 % specificity", "特异度 90% 时的灵敏度"),
    "metric.specificity_at_95_sensitivity": ("specificity at 95 % sensitivity", "灵敏度 95% 时的特异度"),
    "metric.specificity_at_90_sensitivity": ("specificity at 90 % sensitivity", "灵敏度 90% 时的特异度"),
    "metric.ppv_at_prevalence": ("positive predictive value at the stated prevalence", "给定患病率下的阳性预测值"),
    "metric.npv_at_prevalence": ("negative predictive value at the stated prevalence", "给定患病率下的阴性预测值"),
    "metric.set_coverage": ("share of sets that hold the truth", "预测集包含真实诊断的比例"),
    "metric.set_size": ("mean number of diagnoses in a set", "预测集平均诊断数"),
    "class.all": ("all", "全部"),
    "figure.sensitivity": ("sensitivity", "灵敏度"),
    "figure.1 − specificity": ("1 − specificity", "1 − 特异度"),
    "figure.recall (sensitivity)": ("recall (sensitivity)", "召回率（灵敏度）"),
    "figure.precision (positive predictive value)": (
        "precision (positive predictive value)",
        "精确率（阳性预测值）",
    ),
    "figure.most probable class": ("most probable class", "程序首选类别"),
    "figure.truth": ("truth", "真实诊断"),
    "figure.AUROC (95 % interval)": ("AUROC (95 % interval)", "AUROC（95% 区间）"),
    "figure.average precision (95 % interval)": ("average precision (95 % interval)", "平均精确率（95% 区间）"),
    "figure.dot: at the threshold in use": ("dot: at the threshold in use", "圆点：所用阈值处"),
    "figure.malignant": ("malignant (set: {set})", "恶性（集合：{set}）"),
    "figure.z-score": ("z-score", "标准分"),
    "figure.lesions": ("{n} lesions, like ones side by side", "{n} 处病变，相似者相邻"),
    "figure.few": ("too few cases", "例数太少"),
    "figure.interval": ("{value} ({lower} to {upper})", "{value}（{lower} 至 {upper}）"),
}

_FAILURES = {
    "failures": ("Cases that failed", "失败病例"),
    "failures.intro": (
        "Attempted and not possible. Mend the file and run the same command with --retry-failed.",
        "已尝试但无法处理。修复文件后，用 --retry-failed 重新运行同一命令。",
    ),
    "failures.none": ("No case failed.", "没有失败病例。"),
    "failures.left": ("{n} more are not listed here; see 'skinkit status'.", "另有 {n} 例未列出；见“skinkit status”。"),
    "case": ("Case", "病例"),
    "stage": ("Stage", "阶段"),
    "detail": ("Detail", "说明"),
}

_PROVENANCE = {
    "provenance": ("Where everything came from", "来源记录"),
    "provenance.intro": (
        "Same identities, same results. The identity hashes the recipe and every file.",
        "标识相同则结果相同。标识是配方与全部文件的哈希值。",
    ),
    "artifact": ("Artifact", "产物"),
    "identity": ("Identity", "标识"),
    "stage_version": ("Stage, version", "阶段与版本"),
    "made_at": ("Made at", "生成时间"),
    "rows": ("Rows", "行数"),
    "settings": ("Settings", "设置"),
    "versions": ("Software", "软件"),
    "commit": ("commit {commit}", "提交 {commit}"),
    "sources": ("Sources and licences", "数据来源与许可"),
    "source": ("Source", "来源"),
    "licence": ("Licence", "许可"),
    "citation": ("Citation", "引用"),
    "model": ("Model", "模型"),
    "model.line": (
        "{model}, {folds} fold(s), classes {classes}, malignant set '{set}', alarm threshold {threshold}.",
        "{model}，{folds} 折，类别 {classes}，恶性集合“{set}”，报警阈值 {threshold}。",
    ),
    "model.veto_rule": (
        "The alarm threshold was chosen on validation rows by the rule {rule}: {folds}. Cases that no fold held out "
        "are called at the median of the folds.",
        "报警阈值按规则 {rule} 在验证集上选定：{folds}。不属于任何一折留出集的病例使用各折阈值的中位数。",
    ),
    "model.veto_fold": (
        "fold {fold} {threshold} ({n} rows, {malignant} malignant; there sensitivity {sensitivity}, specificity "
        "{specificity})",
        "第 {fold} 折 {threshold}（{n} 例，其中恶性 {malignant} 例；该处灵敏度 {sensitivity}，特异度 {specificity}）",
    ),
    "model.weights": ("Starting weights {name}, SHA-256 {sha}.", "初始权重 {name}，SHA-256 {sha}。"),
    "folds": ("Folds of the model", "模型各折"),
    "fold": ("Fold", "折"),
    "n_train": ("training", "训练"),
    "n_validation": ("validation", "验证"),
    "n_held_out": ("held out", "留出"),
    "signature": ("Radiomic signature", "影像组学特征签名"),
    "signature.line": ("Fold {fold}: {features}", "第 {fold} 折：{features}"),
    "signature.tests": (
        "The test that chose each feature: its class against all others, training rows alone",
        "各特征入选所依据的检验：该类别对其余所有类别，仅用训练集",
    ),
    "signature.feature": ("Feature", "特征"),
    "signature.t": ("Welch's t", "Welch t 值"),
    "signature.p": ("p (Holm)", "p 值（Holm 校正）"),
}

_CLINIC = {
    "clinic.intro": (
        "Most urgent first. The program sorts and hints; the decision is the physician's.",
        "按紧急程度排序。程序只负责排序和提示，决定由医生作出。",
    ),
    "clinic.counts": (
        "{total} lesions assessed: {refer} to be seen by a dermatologist, {rest} without alarm.",
        "共评估 {total} 处病变：{refer} 处建议皮肤科医生查看，{rest} 处未报警。",
    ),
    "clinic.not_assessed": ("Not assessed: please look at these yourself", "未能评估：请自行查看"),
    "clinic.not_assessed_line": (
        "{n} photo(s) got no assessment. That they raise no alarm means nothing.",
        "{n} 张照片没有评估结果。它们没有报警不代表任何结论。",
    ),
    "clinic.performance": ("How well the alarm has worked so far", "报警以往的表现"),
    "clinic.performance_line": (
        "On {cohort} ({role}; {n} photos, {malignant} of malignant lesions) the alarm rang for {sensitivity} of the "
        "malignant (95 % interval {s_lower} to {s_upper}) and stayed silent for {specificity} of the benign ({p_lower} "
        "to {p_upper}).",
        "在 {cohort}（{role}；{n} 张照片，恶性 {malignant} 张）中，恶性报警率为 {sensitivity}"
        "（95% 区间 {s_lower} 至 {s_upper}），良性不报警率为 {specificity}（{p_lower} 至 {p_upper}）。",
    ),
    "clinic.performance_few": (
        "On {cohort} ({role}; {n} photos, {malignant} of malignant lesions) there were too few for a reliable figure.",
        "在 {cohort}（{role}；{n} 张照片，恶性 {malignant} 张）中例数太少，无法给出可靠数值。",
    ),
    "clinic.performance_none": (
        "This model has not been scored on any cohort here: how often it misses a malignant lesion is not known.",
        "该模型在此尚未评分：漏掉恶性病变的频率未知。",
    ),
    "clinic.cards_left": (
        "Cards follow for the first {shown} of {total} lesions; raise --max-lesions for more.",
        "仅为前 {shown} 处（共 {total} 处）病变生成卡片；提高 --max-lesions 可增加。",
    ),
    "worklist": ("Worklist", "待阅清单"),
    "priority": ("No.", "序号"),
    "lesion": ("Lesion", "病变"),
    "lesion.n": ("Lesion {n}", "病变 {n}"),
    "leans_to": ("Leans to", "倾向"),
    "malignancy": ("Suspicion of malignancy", "恶性可疑度"),
    "advice": ("Advice", "建议"),
    "why": ("Why", "理由"),
    "back": ("Back to the worklist", "返回清单"),
    "refer": ("See a dermatologist", "建议皮肤科就诊"),
    "no_refer": ("No alarm", "未报警"),
    "patient": ("Patient", "患者"),
    "photos_behind": (
        "Mean over {n} photos of this lesion; one is shown.",
        "为该病变 {n} 张照片的平均结果；此处显示一张。",
    ),
    "card.rank": ("{rank} of {total}", "第 {rank} 位，共 {total} 处"),
    "in_words": ("In plain words", "简而言之"),
    "say.both": (
        "The program leans to {first} ({first_p}); second: {second} ({second_p}).",
        "程序倾向于{first}（{first_p}）；其次：{second}（{second_p}）。",
    ),
    "say.one": ("The program leans to {first} ({first_p}).", "程序倾向于{first}（{first_p}）。"),
    "say.above": (
        "Suspicion of malignancy {value}, above the alarm threshold {threshold}: please have a dermatologist look.",
        "恶性可疑度 {value}，高于报警阈值 {threshold}：请皮肤科医生查看。",
    ),
    "say.at": (
        "Suspicion of malignancy {value}, at the alarm threshold {threshold}: please have a dermatologist look.",
        "恶性可疑度 {value}，达到报警阈值 {threshold}：请皮肤科医生查看。",
    ),
    "say.veto": (
        "The single most likely diagnosis is benign, but the malignant ones together reach the threshold.",
        "最可能的单一诊断为良性，但各恶性诊断合计达到阈值。",
    ),
    "say.below": (
        "Suspicion of malignancy {value}, below the alarm threshold {threshold}.",
        "恶性可疑度 {value}，低于报警阈值 {threshold}。",
    ),
    "say.below_refer": (
        "No alarm, but the assessment is uncertain: please have a dermatologist look.",
        "未报警，但评估不确定：请皮肤科医生查看。",
    ),
    "say.not_safe": (
        "No alarm does not rule out cancer. A lesion that grows, changes, bleeds or worries the patient should be "
        "seen.",
        "未报警不能排除癌症。病变若增大、变化、出血或令患者担心，应就诊。",
    ),
    "say.missed": (
        "On {cohort}, {missed} of 100 photos of malignant lesions raised no alarm (95 % interval {lower} to {upper}).",
        "在 {cohort} 中，每 100 张恶性病变照片有 {missed} 张未报警（95% 区间 {lower} 至 {upper}）。",
    ),
    "refer.malignant_call": ("suspicion above the alarm threshold", "可疑度高于报警阈值"),
    "refer.undecided": ("the program is undecided between diagnoses", "程序在多个诊断间难以抉择"),
    "refer.mask_failed": ("no outline of the lesion was found", "未找到病变轮廓"),
    "refer.features_missing": ("the lesion could not be measured", "病变无法测量"),
    "refer.unlike_training": ("unlike what the program learnt from", "与程序学习的数据差异很大"),
    "candidates": ("Two candidates", "两个候选诊断"),
    "first": ("First", "首选"),
    "second": ("Second", "其次"),
    "bar.alt": (
        "Suspicion of malignancy {value} on a scale from 0 to 1, alarm threshold {threshold}",
        "恶性可疑度 {value}（0 至 1），报警阈值 {threshold}",
    ),
    "bar.threshold": ("alarm from {threshold}", "报警阈值 {threshold}"),
    "candidate.alt": ("{name}: {value}", "{name}：{value}"),
    "used": ("What the program knew", "程序已知的信息"),
    "used.none": ("This model reads the photo only.", "该模型只读取照片。"),
    "missing": ("Not known to it", "程序未知的信息"),
    "missing.none": ("Nothing the model asks for is missing.", "模型所需信息齐全。"),
    "influences": ("What weighed for or against {target}", "支持或反对{target}的因素"),
    "influences.for": ("{strength} for", "{strength}支持"),
    "influences.against": ("{strength} against", "{strength}反对"),
    "influences.none": ("Not worked out for this lesion.", "未对该病变进行分析。"),
    "influences.note": (
        "Influence on the program's answer, not a cause of disease.",
        "仅表示对程序结果的影响，并非疾病原因。",
    ),
    "target.malignancy": ("malignancy", "恶性"),
    "strength.strong": ("strongly", "强烈"),
    "strength.medium": ("clearly", "明显"),
    "strength.weak": ("slightly", "轻微"),
    "cautions": ("Caution", "注意"),
    "caution.mask_failed": (
        "No outline of the lesion was found; the whole photo was measured. Trust this card less.",
        "未找到病变轮廓，测量的是整张照片。请降低对本卡片的信任。",
    ),
    "caution.otsu": (
        "The outline was drawn by a simple threshold (Otsu: mean overlap 0.67 on dermoscopic images, 0.25 on phone "
        "photos). Check that it follows the lesion.",
        "轮廓由简单阈值法绘制（Otsu：皮肤镜图像平均重叠度 0.67，手机照片 0.25）。请核对轮廓是否贴合病变。",
    ),
    "caution.features_missing": (
        "The lesion could not be measured; the assessment rests on the rest.",
        "病变无法测量，评估仅依据其余信息。",
    ),
    "caution.outside": (
        "Most of what the program looked at lies outside the outline ({inside} inside). Trust this card less.",
        "程序关注的部位大多在轮廓之外（轮廓内 {inside}）。请降低对本卡片的信任。",
    ),
    "caution.folds": (
        "The model's parts disagree about this lesion (standard deviation {sd}).",
        "模型各部分对该病变意见不一（标准差 {sd}）。",
    ),
    "caution.phantom": (
        "This is a phantom: a drawn picture of a made-up patient.",
        "这是模拟体：绘制的图片，虚构的患者。",
    ),
    "caution.leakage": (
        "This model was scored although training and test cases overlap: its figures are too good.",
        "该模型的评分中训练与测试病例有重叠：数字偏乐观。",
    ),
    "notes": ("Physician's findings", "医生所见"),
    "notes.date": ("Date", "日期"),
    "notes.sign": ("Signature", "签名"),
    "model_line": (
        "Model {model}, identity {identity}, predicted {at}.",
        "模型 {model}，标识 {identity}，预测时间 {at}。",
    ),
    "set_line": ("Counted as malignant: {classes} (set '{set}').", "计为恶性：{classes}（集合“{set}”）。"),
}

_DIAGNOSES = {
    "diagnosis.melanocytic nevus": ("melanocytic nevus", "色素痣"),
    "diagnosis.nevus": ("nevus", "色素痣"),
    "diagnosis.melanoma": ("melanoma", "黑色素瘤"),
    "diagnosis.basal cell carcinoma": ("basal cell carcinoma", "基底细胞癌"),
    "diagnosis.squamous cell carcinoma": ("squamous cell carcinoma", "鳞状细胞癌"),
    "diagnosis.actinic keratosis": ("actinic keratosis", "光化性角化病"),
    "diagnosis.actinic keratosis and intraepithelial carcinoma": (
        "actinic keratosis and intraepithelial carcinoma",
        "光化性角化病及上皮内癌",
    ),
    "diagnosis.seborrheic keratosis": ("seborrheic keratosis", "脂溢性角化病"),
    "diagnosis.benign keratosis": ("benign keratosis", "良性角化病"),
    "diagnosis.benign keratosis (seborrheic, solar lentigo, lichen-planus-like)": (
        "benign keratosis",
        "良性角化病",
    ),
    "diagnosis.solar lentigo": ("solar lentigo", "日光性黑子"),
    "diagnosis.dermatofibroma": ("dermatofibroma", "皮肤纤维瘤"),
    "diagnosis.vascular lesion": ("vascular lesion", "血管性病变"),
    "diagnosis.melanosis": ("melanosis", "黑变病"),
    "diagnosis.other named diagnosis": ("other diagnosis", "其他诊断"),
    "diagnosis.benign": ("benign", "良性"),
    "diagnosis.malignant": ("malignant", "恶性"),
}

_ATTRIBUTES = {
    "attribute.age_years": ("age", "年龄"),
    "attribute.age": ("age", "年龄"),
    "attribute.sex": ("sex", "性别"),
    "attribute.gender": ("sex", "性别"),
    "attribute.site": ("site", "部位"),
    "attribute.region": ("body region", "身体部位"),
    "attribute.smoke": ("smoking", "吸烟"),
    "attribute.drink": ("alcohol", "饮酒"),
    "attribute.background_father": ("father's family from", "父系祖籍"),
    "attribute.background_mother": ("mother's family from", "母系祖籍"),
    "attribute.pesticide": ("contact with pesticides", "接触农药"),
    "attribute.skin_cancer_history": ("skin cancer before", "皮肤癌史"),
    "attribute.cancer_history": ("cancer before or in the family", "癌症史"),
    "attribute.has_piped_water": ("piped water at home", "家有自来水"),
    "attribute.has_sewage_system": ("sewerage at home", "家有下水道"),
    "attribute.fitzpatrick": ("skin type (Fitzpatrick)", "皮肤类型（Fitzpatrick）"),
    "attribute.diameter_1_mm": ("larger diameter (mm)", "最大直径（毫米）"),
    "attribute.diameter_2_mm": ("smaller diameter (mm)", "最小直径（毫米）"),
    "attribute.diameter_1": ("larger diameter (mm)", "最大直径（毫米）"),
    "attribute.diameter_2": ("smaller diameter (mm)", "最小直径（毫米）"),
    "attribute.itch": ("itches", "瘙痒"),
    "attribute.grew": ("has grown", "增大"),
    "attribute.hurt": ("hurts", "疼痛"),
    "attribute.changed": ("has changed", "有变化"),
    "attribute.bleed": ("bleeds", "出血"),
    "attribute.elevation": ("raised", "隆起"),
    "attribute.level": ("counted by", "统计单位"),
    "attribute.age_band": ("age", "年龄"),
    "attribute.half": ("half of the test set", "测试集的一半"),
    "attribute.confirmed_by": ("diagnosis confirmed by", "确诊方式"),
    "attribute.image": ("the photo itself", "照片本身"),
    "attribute.modality": ("kind of photo", "照片类型"),
    "attribute.device": ("device", "设备"),
    "attribute.centre": ("centre", "中心"),
    "attribute.jpeg_quality": ("JPEG quality", "JPEG 质量"),
    "value.age_years": ("{value} years", "{value} 岁"),
    "value.female": ("female", "女"),
    "value.male": ("male", "男"),
    "value.true": ("yes", "是"),
    "value.false": ("no", "否"),
    "value.unk": ("not known to the patient", "患者不清楚"),
    "value.missing": ("not known", "未知"),
    "value.lesion": ("lesion", "病变"),
    "value.patient": ("patient", "患者"),
    "value.dermoscopic": ("dermoscopic", "皮肤镜"),
    "value.clinical": ("clinical", "临床"),
    "value.histopathology": ("histopathology", "组织病理学"),
    "value.follow_up": ("follow-up", "随访"),
    "value.consensus": ("consensus", "专家共识"),
    "value.confocal": ("confocal microscopy", "共聚焦显微镜"),
    "value.head/neck": ("head/neck", "头颈部"),
    "value.oral/genital": ("oral/genital", "口腔/生殖器"),
    "value.lower extremity": ("lower extremity", "下肢"),
    "value.palms/soles": ("palms/soles", "手掌/足底"),
    "value.torso": ("torso", "躯干"),
    "value.upper extremity": ("upper extremity", "上肢"),
    "value.arm": ("arm", "手臂"),
    "value.neck": ("neck", "颈部"),
    "value.face": ("face", "面部"),
    "value.hand": ("hand", "手"),
    "value.forearm": ("forearm", "前臂"),
    "value.chest": ("chest", "胸部"),
    "value.nose": ("nose", "鼻"),
    "value.thigh": ("thigh", "大腿"),
    "value.scalp": ("scalp", "头皮"),
    "value.ear": ("ear", "耳"),
    "value.back": ("back", "背部"),
    "value.foot": ("foot", "足"),
    "value.abdomen": ("abdomen", "腹部"),
    "value.lip": ("lip", "唇"),
}

_FEATURES = {
    "family.firstorder": ("brightness", "亮度"),
    "family.shape2D": ("shape", "形状"),
    "family.glcm": ("texture", "纹理"),
    "family.glrlm": ("texture", "纹理"),
    "family.glszm": ("texture", "纹理"),
    "family.gldm": ("texture", "纹理"),
    "family.ngtdm": ("texture", "纹理"),
    "feature": ("{family}: {what}", "{family}：{what}"),
    "feature.channel": ("{feature} in {channel}", "{channel}中的{feature}"),
    "channel.red": ("red light", "红光"),
    "channel.green": ("green light", "绿光"),
    "channel.blue": ("blue light", "蓝光"),
    "channel.lab_l": ("lightness", "明度"),
    "channel.lab_a": ("the red-green axis", "红绿轴"),
    "channel.lab_b": ("the yellow-blue axis", "黄蓝轴"),
    "stem.10Percentile": ("its dark parts", "暗部"),
    "stem.90Percentile": ("its bright parts", "亮部"),
    "stem.Mean": ("its average", "平均值"),
    "stem.Median": ("its middle value", "中位数"),
    "stem.Minimum": ("its darkest point", "最暗处"),
    "stem.Maximum": ("its brightest point", "最亮处"),
    "stem.Range": ("distance from darkest to brightest", "最暗到最亮的差"),
    "stem.InterquartileRange": ("how far it spreads", "离散程度"),
    "stem.MeanAbsoluteDeviation": ("how far it spreads", "离散程度"),
    "stem.RobustMeanAbsoluteDeviation": ("how far it spreads", "离散程度"),
    "stem.RootMeanSquared": ("its overall level", "总体水平"),
    "stem.Variance": ("how much it varies", "变化程度"),
    "stem.Skewness": ("lopsidedness of its values", "分布偏斜"),
    "stem.Kurtosis": ("how peaked its values are", "分布峰度"),
    "stem.Entropy": ("disorder", "无序程度"),
    "stem.Energy": ("total amount", "总量"),
    "stem.TotalEnergy": ("total amount", "总量"),
    "stem.Uniformity": ("evenness", "均匀程度"),
    "stem.Sphericity": ("roundness of the outline", "轮廓圆度"),
    "stem.Elongation": ("roundness against length", "伸长程度"),
    "stem.MajorAxisLength": ("length", "长轴"),
    "stem.MinorAxisLength": ("width", "短轴"),
    "stem.MaximumDiameter": ("largest diameter in the photo", "照片中最大直径"),
    "stem.MeshSurface": ("area in the photo", "照片中面积"),
    "stem.PixelSurface": ("area in the photo", "照片中面积"),
    "stem.Perimeter": ("length of the outline", "轮廓长度"),
    "stem.PerimeterSurfaceRatio": ("outline against area", "轮廓与面积之比"),
    "stem.Contrast": ("contrast between neighbours", "相邻对比"),
    "stem.Correlation": ("regularity", "规律性"),
    "stem.Autocorrelation": ("coarse brightness pattern", "粗亮度模式"),
    "stem.Coarseness": ("coarseness", "粗糙度"),
    "stem.Busyness": ("busyness", "繁杂度"),
    "stem.Complexity": ("complexity", "复杂度"),
    "stem.Strength": ("distinctness of patches", "斑块清晰度"),
    "stem.homogeneity": ("evenness between neighbours", "相邻均匀度"),
    "stem.difference": ("differences between neighbours", "相邻差异"),
    "stem.cluster": ("clumps of like brightness", "相近亮度聚集"),
    "stem.joint": ("pattern of neighbouring brightness", "相邻亮度模式"),
    "stem.short": ("fine grain", "细颗粒"),
    "stem.long": ("coarse grain", "粗颗粒"),
    "stem.dark": ("dark patches", "暗斑"),
    "stem.bright": ("bright patches", "亮斑"),
    "stem.uneven": ("mixture of patch sizes", "斑块大小混杂"),
    "stem.grey_uneven": ("mixture of brightness levels", "亮度层次混杂"),
    "stem.dependence": ("patches of even brightness", "亮度均一的斑块"),
    "stem.other": ("fine structure", "细微结构"),
}

TEXT: dict[str, tuple[str, str]] = {
    **_PAGE, **_ANSWERS, **_WARNINGS, **_TRUST, **_STANDARDS, **_FLOW, **_REASONS, **_LESIONS, **_METRICS, **_FAILURES,
    **_PROVENANCE, **_CLINIC, **_DIAGNOSES, **_ATTRIBUTES, **_FEATURES,
}  # fmt: skip
"""Key -> its text in each of :data:`LANGUAGES`."""

_RADIOMIC = re.compile(r"^(?:(?P<channel>\w+?)_)?original_(?P<family>[A-Za-z0-9]+)_(?P<stem>\w+)$")
# A texture feature without words of its own is told by the first of these that its name contains.
_STEM_GROUPS = (
    ("ShortRun", "short"), ("SmallArea", "short"), ("SmallDependence", "short"), ("LongRun", "long"),
    ("LargeArea", "long"), ("LargeDependence", "long"), ("LowGray", "dark"), ("HighGray", "bright"),
    ("GrayLevelNon", "grey_uneven"), ("GrayLevelVariance", "grey_uneven"), ("NonUniformity", "uneven"),
    ("Dependence", "dependence"), ("Cluster", "cluster"), ("Difference", "difference"), ("Joint", "joint"),
    ("Sum", "joint"), ("MaximumProbability", "joint"), ("MCC", "joint"), ("Imc", "joint"),
    ("InverseVariance", "homogeneity"), ("Idm", "homogeneity"), ("Id", "homogeneity"), ("Entropy", "Entropy"),
    ("Percentage", "short"), ("Variance", "Variance"), ("MaximumDiameter", "MaximumDiameter"),
)  # fmt: skip


def catalogue(lang: str) -> dict[str, str]:
    """Every text of one language."""
    index = LANGUAGES.index(lang)
    return {key: texts[index] for key, texts in TEXT.items()}


class Words:
    """Says things in one language.

    Args:
        lang: one of :data:`LANGUAGES`.
    """

    def __init__(self, lang: str) -> None:
        self.lang = lang
        self._texts = catalogue(lang)

    def __call__(self, key: str, **values: Any) -> str:
        """The text of a key with its placeholders filled."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def code(self, family: str, code: object) -> str:
        """A stable code in words; one without words is told by its name."""
        name = plain(code)
        found = self._texts.get(f"{family}.{name}")
        return found if found is not None else name.replace("_", " ")

    def reason(self, code: str) -> str:
        """Why a case is not ok; ``code:diagnosis`` names the diagnosis too."""
        head, colon, diagnosis = code.partition(":")
        text = self.code("reason", head)
        return f"{text}: {self.diagnosis(diagnosis)}" if colon else text

    def diagnosis(self, label: object) -> str:
        """A diagnosis by its English label or code; a label of somebody's own stays as it is."""
        name = plain(label)
        return self._texts.get(f"diagnosis.{DIAGNOSES.get(name, name)}") or name

    def listed(self, items: list[str]) -> str:
        """Several things in a row."""
        return self("comma").join(items)

    def in_figure(self, text: str) -> str:
        """A label of a figure, which is drawn in English, in this language."""
        known = self._texts.get(f"figure.{text.strip()}")
        if known is not None:
            return known
        if match := _LESIONS_DRAWN.match(text):
            return self("figure.lesions", n=match["n"])
        if match := _LEGEND.match(text):
            if counts := _SUBGROUP_COUNTS.match(match["figures"]):
                return f"{self.subgroup(match['label'])}  {self('figure.subgroup_counts', **counts.groupdict())}"
            return f"{self._legend(match['label'])}  {self._figures(match['figures'])}"
        return self.diagnosis(text)

    def subgroup(self, name: str) -> str:
        """A subgroup of the metrics table, ``column=value``."""
        column, equals, value = name.partition("=")
        if not equals:
            return self("class.all") if name == "all" else plain(name)
        return self("pair", name=self.attribute(column), value=self.value(column, value))

    def _legend(self, label: str) -> str:
        match = _MALIGNANT_SET.match(label)
        return self("figure.malignant", set=match["set"]) if match else self.diagnosis(label)

    def _figures(self, text: str) -> str:
        """The numbers behind a legend's label."""
        if match := _INTERVAL.match(text):
            return self("figure.interval", **match.groupdict())
        return self("figure.few") if text == "too few cases" else text

    def share(self, value: float) -> str:
        """A probability or share in percent, never more certain than two digits allow.

        >>> Words("en").share(0.623), Words("en").share(0.9999), Words("zh-CN").share(0.001)
        ('62 %', 'over 99 %', '不足 1%')
        """
        if math.isnan(value):
            return self("unknown")
        if 0.99 < value < 1:
            return self("share.over")
        if 0 < value < 0.01:
            return self("share.under")
        return self("share", value=f"{value * 100:.0f}")

    def estimate(self, value: float, digits: int = 2) -> str:
        """A figure, or a dash where there is none."""
        return "–" if math.isnan(value) else f"{value:.{digits}f}"

    def attribute(self, name: str) -> str:
        """What an attribute or a radiomic feature is called among people."""
        match = _RADIOMIC.match(name)
        if match is None:
            return self.code("attribute", name)
        what = self(f"stem.{_stem(match['stem'])}")
        text = self("feature", family=self.code("family", match["family"]), what=what)
        channel = match["channel"]
        if channel in (None, "grey"):
            return text
        return self("feature.channel", feature=text, channel=self.code("channel", channel))

    def value(self, attribute: str, value: object) -> str:
        """The value of an attribute in words."""
        if isinstance(value, bool):
            return self("yes") if value else self("no")
        if isinstance(value, (int, float)):
            if math.isnan(value):
                return self("value.missing")
            text = f"{value:g}" if abs(value) >= 1e5 or value == int(value) else f"{value:.3g}"
            return self("value.age_years", value=text) if attribute in ("age_years", "age") else text
        if value is None:
            return self("value.missing")
        name = plain(value)
        shouted = name.isupper() and len(name) > 3  # POMERANIA
        return self._texts.get(f"value.{name.lower()}") or (name.title() if shouted else name)


def is_radiomic(name: str) -> bool:
    """Whether an attribute is a radiomic feature."""
    return _RADIOMIC.match(name) is not None


def _stem(stem: str) -> str:
    if f"stem.{stem}" in TEXT:
        return stem
    return next((group for part, group in _STEM_GROUPS if part in stem), "other")


def plain(value: object) -> str:
    """Text of a table's cell without characters that turn or hide other text (control and bidirectional ones)."""
    return _HIDDEN.sub(" ", str(value))


_LEGEND = re.compile(r"^(?P<label>.+?) {2,}(?P<figures>\S.*)$")
_MALIGNANT_SET = re.compile(r"^malignant \(set: (?P<set>.+)\)$")
_INTERVAL = re.compile(r"^(?P<value>[\d.]+) \((?P<lower>[\d.]+) to (?P<upper>[\d.]+)\)$")
_LESIONS_DRAWN = re.compile(r"^(?P<n>\d+( of \d+)?) lesions, like ones side by side$")
_SUBGROUP_COUNTS = re.compile(r"^\(n = (?P<n>\d+), (?P<malignant>\d+) malignant\)$")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
