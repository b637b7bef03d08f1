-- name: contaminated_prompts
-- group: data
-- protects from: evaluating on prompts that were trained on: AlpacaEval, MT-Bench, the EFT eval split
-- severity: fail
-- figure: prompts trained on that repeat an evaluation prompt (same words, 13 in a row, or ROUGE-L over 0.7)
-- needs: contamination
-- uses: ift, eft, pairs
SELECT * FROM contamination WHERE part = 'prompt' ORDER BY dataset, iteration, id
