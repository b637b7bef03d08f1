-- name: rows_cut_by_length
-- group: training
-- protects from: answers that lose their end at the trainer's max_length
-- severity: warn
-- threshold: at most 0.01
-- figure: share of rows longer than max_length (or the model's context), worst dataset
-- needs: token_counts
-- uses: ift, eft, pairs, judge_pairs
SELECT iteration, dataset AS detail, count(*) FILTER (outcome = 'truncated') / any_value(n_rows) AS figure
FROM token_counts GROUP BY ALL;
SELECT dataset, iteration, id, n_tokens, limit_tokens FROM token_counts WHERE outcome = 'truncated'
ORDER BY n_tokens DESC, id
