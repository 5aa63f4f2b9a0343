"""The language model of `moec model transformer_lm_gpt` in PyTorch, and what the comparisons share."""
