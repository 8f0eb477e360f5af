"""Methods: view features to predictions; one method, one file, one class."""

from tpt.methods.base import Adaptation, Method, ShownViews
from tpt.methods.calibrated import ATPT, CTPT, OTPT
from tpt.methods.mta import MTA
from tpt.methods.rlcf import RLCF
from tpt.methods.rtpt import RTPT
from tpt.methods.se import SE
from tpt.methods.tps import TPS
from tpt.methods.tpt import TPT
from tpt.methods.use import USE
from tpt.methods.view_ensemble import ViewEnsemble
from tpt.methods.zero import ZERO
from tpt.methods.zero_shot import ZeroShot

__all__ = [
    "ATPT",
    "CTPT",
    "MTA",
    "OTPT",
    "RLCF",
    "RTPT",
    "SE",
    "TPS",
    "TPT",
    "USE",
    "ZERO",
    "Adaptation",
    "Method",
    "ShownViews",
    "ViewEnsemble",
    "ZeroShot",
]
