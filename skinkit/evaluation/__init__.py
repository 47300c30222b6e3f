"""Scoring predictions.

``scoring`` turns rows with a truth into the metrics table, curves and figures; ``given`` reads tables made elsewhere.
"""
