"""Pure tensor functions of test-time prompt tuning; this package imports torch alone."""

from tpt.methods.functional.entropy import entropy, log_probabilities, marginal_entropy
from tpt.methods.functional.selection import num_selected, select_confident

__all__ = ["entropy", "log_probabilities", "marginal_entropy", "num_selected", "select_confident"]
