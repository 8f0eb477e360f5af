"""Pure tensor functions of the methods; of third-party packages, only torch is imported here."""

from tpt.methods.functional.entropy import entropy, log_probabilities, marginal_entropy
from tpt.methods.functional.selection import num_selected, select_confident

__all__ = ["entropy", "log_probabilities", "marginal_entropy", "num_selected", "select_confident"]
