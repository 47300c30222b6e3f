"""skinkit: multistage skin-lesion pipelines, from photo to report.

One resumable chain (segment, measure, fuse, classify, explain, evaluate, report) whose every step reads and writes
Parquet and PNG on disk. Research software: nothing it prints is a diagnosis.
"""

__version__ = "0.1.0"
