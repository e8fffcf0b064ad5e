"""Documents rewritten by a language model: what is asked of it, how its answers are held against what was asked, and kept."""
