"""Answers for pictures without labels: one call, and the tables they are written to."""

from tpt.results.predictions.prediction import Likely, Prediction, Predictions, prediction_of, stored_predictions
from tpt.results.predictions.tables import write_predictions

__all__ = ["Likely", "Prediction", "Predictions", "prediction_of", "stored_predictions", "write_predictions"]
