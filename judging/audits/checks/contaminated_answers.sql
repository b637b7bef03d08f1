-- name: contaminated_answers
-- group: data
-- protects from: evaluation prompts inside the answers and judgements that are trained on
-- severity: warn
-- figure: answers and judgements that hold an evaluation prompt (same words, or 13 in a row)
-- needs: contamination
-- uses: ift, eft, pairs
SELECT * FROM contamination WHERE part <> 'prompt' ORDER BY dataset, iteration, id
