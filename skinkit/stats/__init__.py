"""Numbers from arrays: metrics, calibration, thresholds, out-of-fold fits, regressions, encoders and novelty."""
