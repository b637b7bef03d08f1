"""How often models keep rules that a program checks: the answers' verdicts, their figures, and a measure of any model."""
