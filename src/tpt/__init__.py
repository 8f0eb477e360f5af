"""Test-time prompt tuning of CLIP-like models.

What is public stands in `__init__.pyi`.  A name is imported where it is first used, since torch takes seconds to load.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
