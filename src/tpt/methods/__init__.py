"""Methods: view features to predictions; one method, one file, one class."""

from tpt.methods.base import Adaptation, Method
from tpt.methods.tpt import TPT
from tpt.methods.zero_shot import ZeroShot

__all__ = ["TPT", "Adaptation", "Method", "ZeroShot"]
