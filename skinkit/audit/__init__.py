"""What makes a result untrustworthy: leakage, shortcuts, drift, and how often test cases were accessed."""
