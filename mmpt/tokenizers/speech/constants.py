"""The clock of the speech tokenizer, in samples and frames."""

HOP = 160
"""Samples between log-mel frames: 100 Hz."""
FRAME_RATE = 100
"""Log-mel frames of a second."""
STRIDE = 2
"""Of the encoders' convolutional stem: 50 Hz states."""
