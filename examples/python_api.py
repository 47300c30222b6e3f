"""skinkit in Python, cell by cell: open the demo workspace, read tables, run a stage, predict one photo.

Run 'skinkit demo' first, then this file in the same folder: as a notebook (editors read ``# %%`` as cells), or with
``python python_api.py``.
"""

# %% Open a workspace: the folder with skinkit.toml.
from pathlib import Path

from skinkit.api import open_workspace, predict_photo

work = open_workspace("skinkit-demo")
print(work.cohorts[["cohort", "role", "source"]])

# %% Every table is a pandas data frame. Without a cohort, all cohorts are concatenated.
cases = work.cases()
print(cases.groupby("cohort")["diagnosis"].value_counts(dropna=False).unstack(fill_value=0))

# %% Metrics of the external cohort: those with an interval, over all cases.
metrics = work.metrics("lightgbm", "jinan")
overall = metrics[(metrics["subgroup"] == "all") & (metrics["class"] == "malignant")]
print(overall[["decision_rule", "metric", "estimate", "lower", "upper", "n"]].to_string(index=False))

# %% Run a stage. It brings its inputs up to date, as the command does; what is up to date is only read.
predictions = work.run("predict", cohort="walk_in")
images = predictions[predictions["level"] == "image"]
print(images[["case_id", "top1", "malignancy", "call", "refer"]].to_string(index=False))

# %% Predict one photo that is in no cohort. Nothing is written into the workspace.
photo = sorted(Path("skinkit-demo/sources/walk_in/images").iterdir())[0]
answer = predict_photo(
    "lightgbm", photo, {"age_years": 59, "sex": "female", "site": "neck", "bleed": False}, workspace=work
)
for code, probability in answer.probabilities.items():
    print(f"{code}  {probability:.3f}")
print(f"malignancy {answer.malignancy:.3f}, threshold {answer.threshold:.3f}, {answer.call}; no diagnosis")
print("unknown to the model:", ", ".join(answer.missing_attributes))
