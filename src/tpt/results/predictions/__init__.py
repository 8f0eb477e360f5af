"""Answers for pictures without labels, and the tables they are written to."""

from tpt.results.predictions.prediction import (
    Likely,
    Prediction,
    Predictions,
    prediction_of,
    predictions_of,
    write_predictions,
)

__all__ = ["Likely", "Prediction", "Predictions", "prediction_of", "predictions_of", "write_predictions"]
