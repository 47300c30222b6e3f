"""Every table that crosses a stage boundary: its key, its columns, their types and what null means.

Types are declared, columns not listed here are kept unchanged (radiomic features, probabilities), and null always
means *unknown*. This module imports neither pandas nor pyarrow, so ``--help`` stays instant; ``artifacts/tables.py``
turns the type names into Arrow types.
"""

from __future__ import annotations

from dataclasses import dataclass

OK, EXCLUDED, FAILED, PENDING = "ok", "excluded", "failed", "pending"
"""``failed`` was attempted and is not possible; ``excluded`` is expected; ``pending`` lacks its image or table row."""
IMAGE, LESION, PATIENT = LEVELS = ("image", "lesion", "patient")
"""Units that are predicted and scored."""
UNSETTLED = ("image_changed", "image_missing", "mask_changed", "mask_missing")
"""Reasons that may be temporary: a file that was being copied, a share that was not mounted."""


@dataclass(frozen=True)
class Column:
    """One column: name, type (``string``, ``int``, ``float``, ``bool``) and meaning."""

    name: str
    type: str
    help: str


@dataclass(frozen=True)
class Schema:
    """One table.

    Attributes:
        kind: the artifact kind, which is also its folder name.
        version: raised when the meaning of a column changes; older artifacts are rebuilt, newer ones refused.
        key: columns that identify a row; the table is sorted by them.
        columns: the declared columns, in order.
        files: columns that hold a path relative to the artifact's folder.
        dated: whether the date of each row's last change is stored beside the table.
        extra: type of undeclared columns (``float`` for feature tables), or empty where each is inferred.
    """

    kind: str
    version: int
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    files: tuple[str, ...] = ()
    dated: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The declared column names in order."""
        return tuple(column.name for column in self.columns)


def _columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


OUTCOME = _columns(
    ("status", "string", "ok, excluded (expected), failed (not possible) or pending (image or table row still absent)"),
    ("reason", "string", "stable code of why the row is not ok; null when ok"),
    ("detail", "string", "one sentence for a person"),
    ("fingerprint", "string", "hash of what this row was made from; an unchanged one lets the row be kept"),
)

PAD_ATTRIBUTES = _columns(
    ("region", "string", "PAD-UFES-20 body region in capitals"),
    ("smoke", "string", "True or False"),
    ("drink", "string", "True or False"),
    ("background_father", "string", "country of the father's family"),
    ("background_mother", "string", "country of the mother's family"),
    ("pesticide", "string", "True or False"),
    ("skin_cancer_history", "string", "True or False"),
    ("cancer_history", "string", "True or False"),
    ("has_piped_water", "string", "True or False"),
    ("has_sewage_system", "string", "True or False"),
    ("fitzpatrick", "float", "Fitzpatrick skin type 1 to 6"),
    ("diameter_1_mm", "float", "larger diameter of the lesion, mm"),
    ("diameter_2_mm", "float", "smaller diameter of the lesion, mm"),
    ("itch", "string", "True, False or UNK"),
    ("grew", "string", "True, False or UNK"),
    ("hurt", "string", "True, False or UNK"),
    ("changed", "string", "True, False or UNK"),
    ("bleed", "string", "True, False or UNK"),
    ("elevation", "string", "True, False or UNK"),
)

VIEWS = ("clinical", "dermoscopic")
"""Views of a case that have a name."""

KEYS = _columns(
    ("image_id", "string", "one image; unique within a cohort"),
    ("case_id", "string", "one case (default: the image); several views may share it"),
    ("view", "string", "which photograph of the case: clinical or dermoscopic; null when there is one"),
    ("patient_id", "string", "the patient, null when not known"),
    ("lesion_id", "string", "the lesion, already made unique (PAD joins patient_id and lesion_id)"),
    ("group_id", "string", "what must not be split: patient, else lesion, else image, prefixed with the id space"),
)

SUBJECT = _columns(
    ("diagnosis", "string", "diagnosis code of taxonomy.DIAGNOSES; null when unlabelled or unknown"),
    ("diagnosis_source", "string", "the label as the source wrote it"),
    ("age_years", "float", "age at the exam; impossible values are null and flagged"),
    ("sex", "string", "female, male or null"),
    ("site", "string", "one of taxonomy.SITES or null"),
    ("site_source", "string", "the anatomical site as the source wrote it"),
    ("modality", "string", "dermoscopic or clinical"),
    ("confirmed_by", "string", "histopathology, follow_up, consensus, confocal, clinical or null"),
)

CASES = Schema(
    "cases",
    1,
    ("image_id",),
    KEYS
    + _columns(
        ("accession", "string", "number of the exam in the hospital's system, null where the table has none"),
        ("image_path", "string", "image file relative to the cohort root"),
        ("image_sha256", "string", "hash of the file as it lies there"),
        ("pixel_sha256", "string", "hash of the decoded 8-bit RGB pixels and their size"),
        ("dhash", "string", "64-bit difference hashes of the picture, mirrored, and of both transposed, hexadecimal"),
        ("width_px", "int", "width after EXIF orientation"),
        ("height_px", "int", "height after EXIF orientation"),
        ("truth_mask_path", "string", "mask drawn by a person, relative to the cohort root"),
        ("truth_mask_sha256", "string", "hash of that file; null where it cannot be read"),
        ("truth_mask_label", "int", "value that is the lesion, where the cohort's masks hold several labels"),
        ("truth_mask_polarity", "string", "light or dark values are lesion, where the cohort says so"),
    )
    + SUBJECT
    + PAD_ATTRIBUTES
    + _columns(("flags", "string", "comma-separated notes such as age_impossible or alpha_dropped"))
    + OUTCOME,
    dated=True,
)

MASKS = Schema(
    "masks",
    1,
    ("image_id",),
    _columns(
        ("image_id", "string", "the image"),
        ("segmenter", "string", "which segmenter drew the mask"),
        ("mask_file", "string", "8-bit PNG, 0 or 255, at the image's own size"),
        ("mask_sha256", "string", "hash of that file"),
        ("width_px", "int", "mask width"),
        ("height_px", "int", "mask height"),
        ("area_px", "int", "lesion pixels"),
        ("area_share", "float", "lesion pixels over all pixels, 0 to 1"),
        ("left_px", "int", "bounding box, first column"),
        ("top_px", "int", "bounding box, first row"),
        ("right_px", "int", "bounding box, last column + 1"),
        ("bottom_px", "int", "bounding box, last row + 1"),
        ("mask_failed", "bool", "a segmenter's mask under 0.5 % or over 98 % of the image, which is used instead"),
        ("dice", "float", "Dice against the truth mask, null without truth"),
        ("iou", "float", "intersection over union against the truth mask, null without truth"),
        ("in_sample", "bool", "every fold of the network that drew it learnt from this photo or this patient"),
        ("flags", "string", "comma-separated: how a drawn mask was read, or why the truth mask gives no Dice"),
    )
    + OUTCOME,
    files=("mask_file",),
)

FEATURES = Schema(
    "features",
    1,
    ("image_id",),
    _columns(
        ("image_id", "string", "the image"),
        ("engine", "string", "what computed the features"),
        ("mask_failed", "bool", "the mask had failed and the whole image was measured"),
    )
    + OUTCOME,
)
"""Features follow as float columns under PyRadiomics' names, for example ``original_firstorder_Mean``."""

FUSED = Schema(
    "fused",
    1,
    ("case_id",),
    _columns(("case_id", "string", "one case"), ("image_id", "string", "the image that was measured (primary view)"))
    + KEYS[2:]
    + _columns(
        ("image_path", "string", "image file relative to the cohort root"),
        ("image_sha256", "string", "hash of the image file"),
        ("pixel_sha256", "string", "hash of the decoded pixels"),
        ("dhash", "string", "difference hashes of the image"),
        ("segmenter", "string", "which segmenter made the mask"),
        ("mask_path", "string", "mask file relative to the workspace"),
        ("mask_sha256", "string", "hash of the mask file"),
        ("mask_failed", "bool", "the mask had failed"),
        ("area_share", "float", "lesion pixels over all pixels"),
    )
    + SUBJECT
    + PAD_ATTRIBUTES
    + OUTCOME,
)
"""One row per case: keys, subject, attributes and every radiomic feature of its primary photo; where cases have several
views, also their photos (``skinkit.data.views``). Nothing is fitted here."""

SPLIT = Schema(
    "split",
    1,
    ("fold", "cohort", "case_id"),
    _columns(
        ("fold", "int", "fold number from 0"),
        ("cohort", "string", "development cohort"),
        ("case_id", "string", "the case"),
        ("image_id", "string", "its primary image"),
        ("patient_id", "string", "the patient, null when not known"),
        ("group_id", "string", "what is kept on one side"),
        ("class", "string", "class under the split's class set; null where it has none (a split over masks)"),
        ("part", "string", "train, validation or held_out"),
    ),
)

SIGNATURE = Schema(
    "signature",
    1,
    ("fold", "feature"),
    _columns(
        ("fold", "int", "fold number; only its training rows were read"),
        ("feature", "string", "radiomic feature"),
        ("statistic", "float", "Welch t over patients, of the class with the smallest p"),
        ("best_class", "string", "that class, against all others"),
        ("p", "float", "smallest one-vs-rest p value"),
        ("p_holm", "float", "the same after Holm's correction over features and classes"),
        ("rank", "int", "order by p, from 1"),
        ("selected", "bool", "in the signature"),
        ("drop_reason", "string", "not_significant, constant, missing, correlated, beyond_limit or null when selected"),
        ("correlated_with", "string", "the selected feature it repeats (|Spearman r| above the limit)"),
    ),
)

SIGNATURE_TESTS = Schema(
    "tests",
    2,
    ("fold", "feature", "class"),
    _columns(
        ("fold", "int", "fold number; only its training rows were read"),
        ("feature", "string", "radiomic feature"),
        ("class", "string", "class, against all others"),
        ("n", "int", "training rows of the class"),
        ("n_clusters", "int", "patients with such a row"),
        ("statistic", "float", "Welch t over patients"),
        ("freedom", "float", "Welch-Satterthwaite degrees of freedom"),
        ("p", "float", "two-sided p value"),
        ("p_holm", "float", "the same after Holm's correction over features and classes"),
        (
            "mean_difference",
            "float",
            "mean of the class minus that of the others, over patients, in the feature's unit",
        ),
        ("cohens_d", "float", "the same over the pooled standard deviation"),
    ),
)
"""``tests.parquet`` beside a signature: every test that was made."""

SYNTHETIC = Schema(
    "synthetic",
    2,
    ("image_id",),
    _columns(
        ("image_id", "string", "one image; begins with synthetic-"),
        ("fold", "int", "fold whose training rows its generator has learnt from, and which alone may learn from it"),
        ("class", "string", "class it was written as"),
        ("seed", "int", "where its random numbers come from"),
        ("parent", "string", "the generator"),
        ("parent_identity", "string", "identity of that model"),
        ("weights_sha256", "string", "hash of what the fold of the generator has learnt"),
        ("licence", "string", "licences of the photos the generator has learnt from"),
        ("image_file", "string", "PNG, in excluded/ where the image is; its text chunks hold the columns before this"),
        ("image_sha256", "string", "hash of that file"),
        ("pixel_sha256", "string", "hash of the pixels and their size"),
        ("dhash", "string", "difference hashes of the image"),
        ("side_px", "int", "side of the square"),
        ("copy_of", "string", "cohort/case of a training photo of its fold that it repeats, or null"),
        ("nearest", "string", "cohort/case of the training photo of its fold that is most like it"),
        ("cosine", "float", "largest cosine to such a photo, in features of a frozen network; null without any"),
        ("correlation", "float", "largest correlation with such a photo, both 16 px wide"),
        ("agreement", "float", "probability that the classifier of --agree gives its class; null without one"),
    )
    + OUTCOME,
    files=("image_file",),
)

SYNTHETIC_COHORT = "synthetic:"
"""Begins what stands in the place of a cohort for synthetic images, before their name; no cohort is called so."""

MODEL = Schema(
    "models",
    1,
    ("fold",),
    _columns(
        ("fold", "int", "fold number"),
        ("n_train", "int", "training cases"),
        ("n_validation", "int", "validation cases"),
        ("n_held_out", "int", "held-out cases"),
        ("validation_balanced_accuracy", "float", "on the fold's validation rows"),
        ("validation_macro_auroc", "float", "on the fold's validation rows"),
        ("validation_iou", "float", "of a segmenter: mean over the fold's validation rows"),
        ("validation_dice", "float", "likewise"),
        ("temperature", "float", "calibration temperature fitted on the validation rows"),
        ("path", "string", "folder of the fold's files"),
    ),
)

TRAINED_ON = Schema(
    "trained_on",
    2,
    ("fold", "cohort", "case_id", "image_id"),
    _columns(
        ("fold", "int", "fold number"),
        ("cohort", "string", "development cohort"),
        ("case_id", "string", "the case"),
        ("image_id", "string", "one of its photos; a case has a row for each"),
        (
            "part",
            "string",
            "train, validation, held_out, replay (drawn again, of a cohort that the model it starts from has learnt), "
            "pretrain (learnt by a model it is made from alone) or unused (of a cohort that was not trained on, or not "
            "of the share that was)",
        ),
        ("group_id", "string", "what must not be split, as in the cases"),
        ("patient_id", "string", "the patient, null when not known"),
        ("lesion_id", "string", "the lesion, null when not known"),
        ("image_sha256", "string", "hash of the image file"),
        ("pixel_sha256", "string", "hash of the decoded pixels"),
        ("dhash", "string", "difference hashes of the image"),
    ),
)
"""What a model has learnt from, beside it, so that leakage can be checked with the model alone. Synthetic images are
training rows of the cohort ``synthetic:<name>``."""
TRAINED_ON_FILE = "trained_on.parquet"
"""The file of this table, in the model's folder."""
LEARNT_BEFORE = "pretrain"
"""Part of the rows that a model has learnt from only through the model it starts from, or its images' generator."""
REPLAYED = "replay"
"""Part of the training rows of an earlier cohort that a second training draws from."""
UNUSED = "unused"
"""Part of the split's training and validation rows that a model was not trained on: of other cohorts, or not drawn."""
TRAINED_ON_FILE = "trained_on.parquet"
"""Its name beside a model."""
UNTRAINED = "untrained"
"""What says that a model has learnt nothing: a key of ``model.json``, and a reason to refer a case."""
LEARNT_LABEL = "diagnosis"
"""Further column of ``trained_on.parquet``: the diagnosis as it was when the model was trained."""
LEARNT = ("train", "validation", REPLAYED, LEARNT_BEFORE)
"""Parts of the rows that a model has learnt from."""

PREDICTIONS = Schema(
    "predictions",
    1,
    ("level", "case_id"),
    _columns(
        ("level", "string", "image (one case), lesion or patient"),
        ("case_id", "string", "case at level image, else the lesion's or patient's id"),
        ("image_id", "string", "image shown for the row"),
        ("patient_id", "string", "the patient, null when not known"),
        ("lesion_id", "string", "the lesion, null when not known"),
        ("group_id", "string", "cluster of intervals"),
        ("n_cases", "int", "cases behind the row"),
        ("model", "string", "model name"),
        ("model_identity", "string", "identity of the model artifact"),
        ("fold", "int", "fold that held the row out; null where folds were averaged"),
        ("top1", "string", "most probable class"),
        ("top1_p", "float", "its probability"),
        ("top2", "string", "second class"),
        ("top2_p", "float", "its probability"),
        ("malignancy", "float", "sum of the calibrated probabilities of the malignant classes, 0 to 1"),
        ("malignancy_raw", "float", "the same before calibration"),
        ("effective_prevalence", "float", "prevalence of malignancy for which malignancy holds, 0 to 1, or null"),
        ("malignancy_at_prevalence", "float", "the same where malignancy is as frequent as the cohort states, or null"),
        ("prediction_set", "string", "conformal set: classes with commas, which together are to hold the truth"),
        ("malignant_set", "string", "which classes that sum counts"),
        ("threshold", "float", "veto threshold written into the model"),
        ("call", "string", "malignant or benign, after the veto"),
        ("veto", "bool", "called malignant although the top class is benign"),
        ("entropy", "float", "entropy of the probabilities over ln(classes), 0 sure to 1 undecided"),
        ("fold_sd", "float", "standard deviation of malignancy over folds, null with one fold"),
        ("uncertainty_variance", "float", "mean over classes of the variance over passes with dropout, or null"),
        ("uncertainty_entropy", "float", "entropy of the mean over those passes before calibration, nats, or null"),
        ("uncertainty_mutual_information", "float", "how much of it the passes disagree about, nats, or null"),
        (
            "unlike_training",
            "float",
            "percentile of the validation rows that are more like the training rows, 0 to 100",
        ),
        ("refer", "bool", "a dermatologist should look"),
        (
            "refer_reason",
            "string",
            "comma-separated: malignant_call, undecided, mask_failed, features_missing, unlike_training, untrained",
        ),
        ("missing_attributes", "string", "comma-separated attributes the model reads and the case lacks"),
    )
    + OUTCOME,
    dated=True,
)
"""Probabilities follow as ``p__diagnosis__<class>``; of each further task a model answers ``p__<task>__<class>``,
``top1__<task>``, ``top1_p__<task>`` and ``prediction_set__<task>``; with all criteria of the seven-point checklist
``checklist_score``, ``checklist_p_from_1`` and ``checklist_p_from_3``."""

EXPLANATIONS = Schema(
    "explanations",
    1,
    ("case_id",),
    _columns(
        ("case_id", "string", "the case"),
        ("image_id", "string", "its image"),
        ("target", "string", "what is explained: a class code, malignancy, or task:class"),
        ("method", "string", "gradcam, gfa or occlusion_of_mask"),
        ("heatmap_file", "string", "8-bit grey PNG at the image's own size, 255 = strongest support"),
        *(
            (f"heatmap_{view}_file", "string", f"likewise of its {view} photo, where that is not the primary one")
            for view in VIEWS
        ),
        ("inside_mask", "float", "share of heatmap energy inside the lesion mask, 0 to 1; null for occlusion_of_mask"),
        ("pointing_game", "bool", "the heatmap is strongest inside the lesion mask; null likewise"),
        ("attributions_json", "string", 'JSON list of {"attribute", "value", "contribution"}, strongest first'),
        ("baseline", "float", "the model's output without any attribute, in the attribution's unit"),
        ("unit", "string", "unit of the contributions: log_odds or probability"),
        ("composite_file", "string", "of gfa: photo, heatmap and contributions in one PNG"),
        ("steps", "int", "of gfa: steps of the path that were needed, the most of any fold"),
        ("completeness_error", "float", "of gfa: share of the change in log odds the sum misses, the most of any fold"),
    )
    + OUTCOME,
    files=(
        *(f"{kind}{view}_file" for kind in ("heatmap", "attention") for view in ("", *(f"_{view}" for view in VIEWS))),
        "composite_file",
    ),
)
"""Of networks that attend to places ``attention_file`` and ``attention_<view>_file`` follow: where, whatever the class,
as 8-bit grey PNG: 255 from four times the mean of the photo on."""

METRICS = Schema(
    "metrics",
    3,
    ("cohort", "model", "task", "subgroup", "class", "average", "decision_rule", "metric"),
    _columns(
        ("cohort", "string", "cohort scored"),
        ("model", "string", "model name"),
        ("task", "string", "diagnosis, or a further task the model answers"),
        ("subgroup", "string", "all, or column=value"),
        ("class", "string", "class code, malignant, or all for averages"),
        ("average", "string", "none, macro, micro or weighted"),
        ("decision_rule", "string", "none (threshold-free), argmax, frozen_threshold, veto or conformal_set"),
        ("metric", "string", "auroc, sensitivity, specificity, balanced_accuracy, ..."),
        ("estimate", "float", "point estimate; null where the note says why there is none"),
        ("lower", "float", "lower end of the 95 % interval"),
        ("upper", "float", "upper end of the 95 % interval"),
        ("n", "int", "cases"),
        ("n_positive", "int", "cases of the class"),
        ("n_clusters", "int", "patients (clusters)"),
        ("threshold", "float", "threshold applied, null where none"),
        ("threshold_source", "string", "where the threshold came from, for example validation:youden"),
        (
            "note",
            "string",
            "no estimate: undefined, too_few, separable, beyond_bounds; too_few_patients; no_interval; exact_interval",
        ),
        (
            "primary",
            "bool",
            "the primary endpoint; the metrics' info says whether it was declared before the first access",
        ),
    ),
)

REPORT = Schema(
    "report",
    1,
    ("page",),
    _columns(
        ("page", "string", "HTML file relative to the artifact"),
        ("title", "string", "its title"),
        ("bytes", "int", "its size"),
    ),
    files=("page",),
)

SCHEMAS: dict[str, Schema] = {
    schema.kind: schema
    for schema in (
        CASES, MASKS, FEATURES, FUSED, SPLIT, SIGNATURE, SYNTHETIC, MODEL, PREDICTIONS, EXPLANATIONS, METRICS, REPORT,
    )
}  # fmt: skip

DEFAULT_ENDPOINT = "malignant sensitivity @ veto"
"""The primary endpoint that ``skinkit init`` writes: chosen by default, until a person declares it."""
PRIMARY_TASK = "diagnosis"
"""The task whose columns and figures have no task in their names."""


def probability_prefix(task: str = PRIMARY_TASK) -> str:
    """Prefix of a task's probability columns."""
    return f"p__{task}__"


PROBABILITY = probability_prefix()
"""Prefix of the probability columns of the diagnosis."""


def probability_columns(names: list[str] | tuple[str, ...]) -> list[str]:
    """The probability columns among these names, in order."""
    return [name for name in names if name.startswith(PROBABILITY)]
