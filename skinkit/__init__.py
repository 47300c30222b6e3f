"""skinkit: multistage skin-lesion pipelines, from photo to report.

One resumable chain (segment, measure, fuse, classify, explain, evaluate, report) whose every step reads and writes
Parquet and PNG on disk. Research software: nothing it prints is a diagnosis.
"""

import sys

__version__ = "0.1.0"

if sys.platform == "win32":
    # Locks, pseudonymised folders and worker processes are POSIX's.
    sys.stderr.write("skinkit runs on Linux and macOS; on Windows, install it in WSL 2.\n")
    raise SystemExit(2)
