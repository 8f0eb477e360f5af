"""Answers for pictures without labels: one call, and the tables they are written to."""

from tpt.predictions.prediction import (
    Likely,
    Prediction,
    Predictions,
    prediction_of,
    stored_predictions,
    write_predictions,
)
from tpt.predictions.predictor import predict

__all__ = ["Likely", "Prediction", "Predictions", "predict", "prediction_of", "stored_predictions", "write_predictions"]
