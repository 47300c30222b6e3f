"""Threats to a result's validity: leakage, shortcuts, drift and repeated access to test cases."""
