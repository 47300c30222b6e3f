"""Scoring predictions.

``scoring`` computes the metrics table, curves and figures from rows with a truth; ``outside_predictions`` reads tables
of predictions from other software.
"""
