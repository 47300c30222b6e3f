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
    "reason.duplicate_content": ("the same photo again", "重复照片"),
    "reason.duplicate_image": ("the same photo again", "重复照片"),
    "reason.duplicate_row": ("the same table row again", "重复的表格行"),
    "reason.duplicate_id": ("table rows that contradict each other", "表格行相互矛盾"),
    "reason.mask_missing": ("the outline file is not there", "轮廓文件不存在"),
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
    "reason.cases_failed": ("none of its photos could be assessed", "其照片均无法评估"),
    "reason.trained_on": ("trained on, so not predicted", "用于训练，故不预测"),
    "reason.unlabelled": ("no diagnosis known", "无已知诊断"),
    "reason.several_diagnoses": ("photos with different diagnoses", "照片的诊断不一致"),
    "reason.no_class": ("a diagnosis the model does not know", "模型不认识的诊断"),
    "reason.not_held_out_or_not_measured": ("trained on, or not measured", "用于训练或未测量"),
    "reason.not_predicted": ("no prediction", "没有预测"),
    "reason.other_view": ("another photo stands for the case", "由另一张照片代表该病例"),
    "reason.unsaid": ("no reason given", "未说明原因"),
}

_LESIONS = {
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
    "model.weights": ("Starting weights {name}, SHA-256 {sha}.", "初始权重 {name}，SHA-256 {sha}。"),
    "folds": ("Folds of the model", "模型各折"),
    "fold": ("Fold", "折"),
    "n_train": ("training", "训练"),
    "n_validation": ("validation", "验证"),
    "n_held_out": ("held out", "留出"),
    "signature": ("Radiomic signature", "影像组学特征签名"),
    "signature.line": ("Fold {fold}: {features}", "第 {fold} 折：{features}"),
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
    "attribute.confirmed_by": ("diagnosis confirmed by", "确诊方式"),
    "attribute.image": ("the photo itself", "照片本身"),
    "attribute.modality": ("kind of photo", "照片类型"),
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
    **_PAGE, **_ANSWERS, **_WARNINGS, **_FLOW, **_REASONS, **_LESIONS, **_METRICS, **_FAILURES, **_PROVENANCE,
    **_CLINIC, **_DIAGNOSES, **_ATTRIBUTES, **_FEATURES,
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
            return f"{self._legend(match['label'])}  {self._figures(match['figures'])}"
        return self.diagnosis(text)

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
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
