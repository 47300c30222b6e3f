"""Checklists of reporting standards: what each item asks for, in our words, and which facts of the pipeline answer it.

Items are numbered as in the published checklists; their wording here is our own and shorter. Read the standard itself
before submitting: this page only saves looking up what the pipeline already knows.
"""

from __future__ import annotations

from dataclasses import dataclass

PERSON, PART, FILLED = "person", "part", "filled"


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes:
        number: as published.
        section: key of the words ``standard.section.*``.
        asks: what it asks for, in each language.
        facts: names of facts of :mod:`skinkit.reporting.facts` that answer it.
        whole: whether those facts answer it fully; otherwise a person has to add to them.
    """

    number: str
    section: str
    asks: tuple[str, str]
    facts: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Standard:
    """A checklist.

    Attributes:
        title: its name.
        citation: where it was published.
        items: in order.
    """

    title: str
    citation: str
    items: tuple[Item, ...]


def _items(*rows: tuple[str, str, str, str, str]) -> tuple[Item, ...]:
    """Rows of number, section, English, Chinese and facts; facts that end in ``!`` answer the item fully."""
    made = []
    for number, section, english, chinese, facts in rows:
        whole = facts.endswith("!")
        made.append(Item(number, section, (english, chinese), tuple(facts.rstrip("!").split()), whole))
    return tuple(made)


_CLAIM = _items(
    ("1", "title", "Say in the title that AI was used, and which kind", "标题说明使用了 AI 及其类型", "model"),
    ("2", "title", "Abstract: design, methods, results, conclusions", "摘要：设计、方法、结果、结论", ""),
    ("3", "introduction", "Background, and the part the model is to play in care", "背景及模型在诊疗中的作用", ""),
    ("4", "introduction", "Aims and hypotheses", "目的与假设", "primary"),
    ("5", "methods", "Prospective or retrospective", "前瞻性或回顾性", ""),
    ("6", "methods", "Goal: feasibility, development, superiority and so on", "研究目标：可行性、开发、优效等", ""),
    ("7", "data", "Where the data came from", "数据来源", "sources"),
    ("8", "data", "Who was included and excluded, and why", "纳入与排除标准及原因", "flow"),
    ("9", "data", "Preprocessing of images and data", "图像与数据预处理", "preprocessing!"),
    ("10", "data", "How subsets of the data were chosen", "数据子集的选取", "flow"),
    ("11", "data", "How the data were de-identified", "去标识化方法", ""),
    ("12", "data", "How missing data were handled", "缺失数据的处理", "missing!"),
    ("13", "data", "How the images were taken", "图像采集方案", "acquisition"),
    ("14", "truth", "What the reference standard is", "参考标准的定义", "truth"),
    ("15", "truth", "Why this reference standard", "选择该参考标准的理由", ""),
    ("16", "truth", "Who annotated, with which qualification", "标注者及其资质", ""),
    ("17", "truth", "How the test set was annotated", "测试集的标注方式", "truth"),
    ("18", "truth", "Agreement of raters", "标注者一致性", ""),
    ("19", "partitions", "How cases were assigned to partitions", "病例如何划分", "partitions!"),
    ("20", "partitions", "At which level partitions are disjoint", "划分在哪一层级互不相交", "partitions leakage!"),
    ("21", "partitions", "Intended size of the test set and why", "测试集样本量及依据", "sizes"),
    ("22", "model", "The model in detail: inputs, outputs, layers", "模型细节：输入、输出、结构", "model"),
    ("23", "model", "Software, versions", "软件与版本", "software!"),
    ("24", "model", "How parameters were initialised", "参数初始化", "initialisation!"),
    ("25", "training", "Training in detail: settings, augmentation", "训练细节：设置与增强", "training!"),
    ("26", "training", "How the final model was chosen", "最终模型的选择方法", "selection"),
    ("27", "training", "Ensembling", "集成方式", "ensemble!"),
    ("28", "evaluation", "Metrics", "评价指标", "metrics!"),
    ("29", "evaluation", "Uncertainty and significance", "不确定性与显著性", "intervals!"),
    ("30", "evaluation", "Robustness and sensitivity analyses", "稳健性与敏感性分析", "subgroups shortcuts"),
    ("31", "evaluation", "Explanation of the model's answers", "模型结果的解释方法", "explanations"),
    ("32", "evaluation", "Internal testing", "内部测试", "internal!"),
    ("33", "evaluation", "External testing", "外部测试", "external!"),
    ("34", "evaluation", "Registration of the trial", "临床试验注册", ""),
    ("35", "results", "Flow of cases", "病例流程", "flow!"),
    ("36", "results", "Demographic and clinical features of each partition", "各划分的人口学与临床特征", "population"),
    ("37", "results", "Performance on every partition", "各划分的性能", "performance!"),
    ("38", "results", "Diagnostic accuracy with its precision", "诊断准确性及其精度", "performance intervals!"),
    ("39", "results", "Analysis of the failures", "失败案例分析", "failures"),
    ("40", "discussion", "Limitations: bias, uncertainty, generalisation", "局限：偏倚、不确定性、推广性", "fears"),
    ("41", "discussion", "What follows for practice", "对实践的意义", ""),
    ("42", "other", "Where the full protocol is", "完整方案的获取", ""),
    ("43", "other", "Availability of software, model and data", "软件、模型、数据的可获得性", "reproduce"),
    ("44", "other", "Funding, and the part of the funders", "资金来源及资助者角色", ""),
)

_TRIPOD = _items(
    (
        "1",
        "title",
        "Say that a prediction model is developed or evaluated, for whom and what",
        "标题：预测模型的开发或评价、人群与结局",
        "",
    ),
    ("2", "title", "Abstract by the checklist for abstracts", "按摘要清单撰写摘要", ""),
    ("3a", "introduction", "Health context and existing models", "医疗背景与已有模型", ""),
    ("3b", "introduction", "Target population, purpose, intended users", "目标人群、用途与使用者", ""),
    ("3c", "introduction", "Known inequalities between groups", "已知的人群健康不平等", ""),
    ("4", "introduction", "Objectives: development, evaluation or both", "目标：开发、评价或两者", "primary"),
    ("5a", "data", "Sources of the data and why they represent the target", "数据来源及其代表性", "sources"),
    ("5b", "data", "Dates of data collection", "数据采集时间", ""),
    ("6a", "data", "Setting and centres", "研究场所与中心", "acquisition"),
    ("6b", "data", "Eligibility", "入选标准", "flow"),
    ("6c", "data", "Treatments received", "接受的治疗", ""),
    (
        "7",
        "data",
        "Preparation and quality checks, alike for all groups",
        "数据准备与质控，各人群一致",
        "preprocessing!",
    ),
    ("8a", "truth", "The outcome, and how and when it was assessed", "结局及其评估方式与时间", "truth"),
    ("8b", "truth", "Who assessed the outcome", "结局评估者", ""),
    ("8c", "truth", "Blinding of that assessment", "评估的盲法", ""),
    ("9a", "model", "How predictors were chosen before modelling", "建模前预测因子的选择", "predictors"),
    ("9b", "model", "Every predictor: how and when measured", "各预测因子的测量方式与时间", "predictors"),
    ("9c", "model", "Who assessed the predictors", "预测因子评估者", ""),
    ("10", "methods", "How the sample size was arrived at", "样本量的确定", "sizes"),
    ("11", "methods", "Missing data, and reasons for leaving cases out", "缺失数据及剔除原因", "missing flow!"),
    ("12a", "methods", "How the data were used: partitions", "数据使用：划分", "partitions leakage!"),
    ("12b", "methods", "How predictors were handled: scaling, functional form", "预测因子的处理", "preprocessing!"),
    (
        "12c",
        "methods",
        "Type of model, all steps of building, tuning, internal validation",
        "模型类型、构建、调参与内部验证",
        "model training!",
    ),
    ("12d", "methods", "Heterogeneity between clusters", "各群组间异质性", "external subgroups"),
    ("12e", "methods", "Measures of performance, and why", "性能指标及理由", "metrics intervals!"),
    ("12f", "methods", "Updating of the model", "模型更新", "updating!"),
    ("12g", "methods", "How predictions were calculated in evaluation", "评价时预测值的计算", "ensemble thresholds!"),
    ("13", "methods", "Class imbalance, and recalibration after it", "类别不平衡及其后校准", "balance calibration!"),
    ("14", "methods", "What was done for fairness", "公平性措施", "subgroups"),
    ("15", "methods", "The model's output, and thresholds", "模型输出与阈值", "thresholds!"),
    ("16", "methods", "Differences between development and evaluation data", "开发与评价数据的差异", "drift!"),
    ("17", "methods", "Ethical approval and consent", "伦理批准与知情同意", ""),
    ("18a", "other", "Funding", "资金来源", ""),
    ("18b", "other", "Conflicts of interest", "利益冲突", ""),
    ("18c", "other", "Where the protocol is", "研究方案", ""),
    ("18d", "other", "Registration", "注册信息", ""),
    ("18e", "other", "Availability of the data", "数据可获得性", "licences"),
    ("18f", "other", "Availability of the code", "代码可获得性", "reproduce"),
    ("19", "other", "Part taken by patients and the public", "患者与公众参与", ""),
    ("20a", "results", "Flow of participants, with and without the outcome", "参与者流程及结局数", "flow!"),
    ("20b", "results", "Characteristics, missing data, by setting", "特征与缺失情况", "population missing!"),
    ("20c", "results", "Evaluation data against development data", "评价数据与开发数据比较", "drift!"),
    ("21", "results", "Participants and events in every analysis", "各分析的例数与事件数", "sizes!"),
    ("22", "results", "The full model, so that others can use it", "完整模型，供他人使用", "reproduce"),
    ("23a", "results", "Performance with intervals, subgroups too", "性能及区间，含亚组", "performance subgroups!"),
    ("23b", "results", "Heterogeneity of performance", "性能的异质性", "external subgroups!"),
    ("24", "results", "Results of updating", "模型更新的结果", "updating!"),
    ("25", "discussion", "Interpretation, fairness included", "结果解读（含公平性）", ""),
    ("26", "discussion", "Limitations and their effect", "局限及其影响", "fears"),
    (
        "27a",
        "discussion",
        "What to do with poor or absent inputs in use",
        "输入质量差或缺失时如何处理",
        "missing failures",
    ),
    ("27b", "discussion", "What users must do and know", "使用者须具备的操作与知识", ""),
    ("27c", "discussion", "Next steps", "后续研究", ""),
)

_CLEAR = _items(
    ("1", "data", "Kinds of images", "图像类型", "acquisition!"),
    ("2", "data", "Artefacts in the images", "图像伪影", "shortcuts"),
    ("3", "data", "How the images were taken: device, light", "图像采集：设备与光照", "acquisition"),
    ("4", "data", "Preprocessing", "预处理", "preprocessing!"),
    ("5", "data", "Synthetic images", "合成图像", "synthetic!"),
    ("6", "data", "Public images and where they are from", "公开图像及其来源", "sources!"),
    ("7", "data", "Facts about the patients", "患者信息", "population"),
    ("8", "data", "Skin colour and how it was told", "肤色及其判定方法", "skin"),
    ("9", "data", "Possible biases of the data", "数据可能的偏倚", "shortcuts fears"),
    ("10", "partitions", "Partitions, and what keeps them apart", "数据划分及其隔离", "partitions leakage!"),
    ("11", "partitions", "Size of training, validation and test set", "训练、验证、测试集大小", "sizes!"),
    ("12", "partitions", "An external test set", "外部测试集", "external!"),
    ("13", "data", "Images of several devices", "多设备图像", "acquisition"),
    ("14", "data", "How many cases each class has", "各类别例数", "balance!"),
    ("15", "data", "Images unlike those trained on", "分布外图像", "novelty drift"),
    ("16", "truth", "How labels were made", "标签的产生方式", "truth"),
    ("17", "truth", "Accepted names of diagnoses", "公认的诊断名称", "classes!"),
    ("18", "truth", "Histopathology of malignant lesions", "恶性病变的组织病理", "truth!"),
    ("19", "model", "How the algorithm was made, in detail", "算法开发细节", "model training!"),
    ("20", "other", "How others can test the algorithm", "他人如何测试该算法", "reproduce"),
    ("21", "evaluation", "Measures of performance", "性能指标", "performance metrics intervals!"),
    ("22", "evaluation", "Comparison with other methods, and what is new", "与其他方法的比较及创新点", ""),
    ("23", "evaluation", "Assessment of bias, by skin colour too", "偏倚评估（含肤色）", "subgroups shortcuts!"),
    ("24", "discussion", "Use cases and target conditions", "用途与目标疾病", "classes"),
    ("25", "discussion", "Effects on patients and the team", "对患者与医疗团队的影响", ""),
)

_METRICS = _items(
    ("1", "methods", "A guideline or checklist was followed", "遵循指南或清单", ""),
    ("2", "methods", "Eligibility that fits the population meant", "入选标准符合目标人群", "flow"),
    ("3", "truth", "A reference standard of high quality", "高质量参考标准", "truth"),
    ("4", "data", "Several centres", "多中心", "external"),
    ("5", "data", "Images like those of routine care", "图像来自常规诊疗", "acquisition"),
    ("6", "data", "Protocol and parameters of imaging", "成像方案与参数", "acquisition"),
    ("7", "data", "Time between image and reference standard", "成像与参考标准的时间间隔", ""),
    ("8", "segmentation", "How lesions were outlined", "分割方法", "segmentation!"),
    ("9", "segmentation", "Automatic outlines were evaluated", "自动分割的评价", "segmentation!"),
    (
        "10",
        "segmentation",
        "One reader or one program outlined the test set",
        "测试集由单一读者或程序分割",
        "segmentation!",
    ),
    ("11", "features", "Preprocessing fit for the images", "适当的图像预处理", "radiomics!"),
    ("12", "features", "Standardised software for features", "标准化特征软件", "radiomics!"),
    ("13", "features", "Parameters of feature extraction", "特征提取参数", "radiomics!"),
    ("14", "features", "Features that are not robust were removed", "剔除不稳健特征", ""),
    ("15", "features", "Redundant features were removed", "剔除冗余特征", "signature!"),
    ("16", "features", "Number of features against number of cases", "特征数与病例数之比", "signature sizes!"),
    ("17", "features", "Robustness of an end-to-end network", "端到端网络的稳健性", ""),
    ("18", "partitions", "Sound partitions", "合理的数据划分", "partitions leakage!"),
    ("19", "partitions", "Confounding was looked at", "混杂因素的处理", "shortcuts"),
    ("20", "evaluation", "Metrics fit for the task", "合适的评价指标", "metrics!"),
    ("21", "evaluation", "Uncertainty", "不确定性", "intervals!"),
    ("22", "evaluation", "Calibration", "校准", "calibration!"),
    (
        "23",
        "evaluation",
        "One kind of image, or proof that one is not enough",
        "单一成像参数或证明其不足",
        "acquisition",
    ),
    ("24", "evaluation", "Comparison with an approach without radiomics", "与非影像组学方法比较", ""),
    ("25", "evaluation", "Comparison with a simple model", "与简单模型比较", ""),
    ("26", "evaluation", "Internal testing", "内部测试", "internal!"),
    ("27", "evaluation", "External testing", "外部测试", "external!"),
    ("28", "other", "Data are available", "数据可获得", "licences"),
    ("29", "other", "Code is available", "代码可获得", "reproduce"),
    ("30", "other", "The model is available", "模型可获得", "reproduce"),
)

STANDARDS: dict[str, Standard] = {
    "claim": Standard("CLAIM 2024", "Tejani et al., Radiology: Artificial Intelligence 6(4):e240300, 2024", _CLAIM),
    "tripod-ai": Standard("TRIPOD+AI", "Collins et al., BMJ 385:e078378, 2024", _TRIPOD),
    "clear-derm": Standard("CLEAR Derm", "Daneshjou et al., JAMA Dermatology 158(1):90-96, 2022", _CLEAR),
    "metrics": Standard("METRICS", "Kocak et al., Insights into Imaging 15:8, 2024", _METRICS),
}
"""Name on the command line -> checklist."""
