"""Rules in instructions that a program can check: their words, their checks, and IFEval's names for them."""
