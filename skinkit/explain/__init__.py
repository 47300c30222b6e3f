"""Why a model answers as it does: Shapley values, integrated gradients, and whether they are faithful."""
