"""The clock of the speech tokenizer, in samples and frames."""

HOP = 160
"""Samples between log-mel frames: 100 Hz."""
STRIDE = 2
"""Of the encoders' convolutional stem: 50 Hz states."""
