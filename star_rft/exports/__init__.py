"""Exports of training data in the formats of other trainers, with data and model cards."""
