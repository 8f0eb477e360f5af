"""Methods turn view features into predictions; each method is one class in one file."""

from tpt.methods.awt import AWT
from tpt.methods.base import Adaptation, Method
from tpt.methods.boostadapter import BoostAdapter
from tpt.methods.calibrated import ATPT, CTPT, OTPT
from tpt.methods.dota import DOTA
from tpt.methods.ecalp import ECALP
from tpt.methods.mta import MTA
from tpt.methods.onzeta import OnZeta
from tpt.methods.pta import PTA
from tpt.methods.rlcf import RLCF
from tpt.methods.rtpt import RTPT
from tpt.methods.se import SE
from tpt.methods.stream import StreamMethod
from tpt.methods.tda import TDA
from tpt.methods.tps import TPS
from tpt.methods.tpt import TPT
from tpt.methods.use import USE
from tpt.methods.view_ensemble import ViewEnsemble
from tpt.methods.zero import ZERO
from tpt.methods.zero_shot import ZeroShot

__all__ = [
    "ATPT",
    "AWT",
    "CTPT",
    "DOTA",
    "ECALP",
    "MTA",
    "OTPT",
    "PTA",
    "RLCF",
    "RTPT",
    "SE",
    "TDA",
    "TPS",
    "TPT",
    "USE",
    "ZERO",
    "Adaptation",
    "BoostAdapter",
    "Method",
    "OnZeta",
    "StreamMethod",
    "ViewEnsemble",
    "ZeroShot",
]
