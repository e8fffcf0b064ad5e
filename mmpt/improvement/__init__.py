"""A model that learns from its own answers: rounds of asking it, scoring what it says, and a training on that."""
