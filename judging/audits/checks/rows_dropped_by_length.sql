-- name: rows_dropped_by_length
-- group: training
-- protects from: rows that the trainer drops without a word because the prompt alone fills max_length
-- severity: fail
-- threshold: at most 0.01
-- figure: share of rows whose prompt leaves no room for an answer, worst dataset
-- needs: token_counts
-- uses: ift, eft, pairs, judge_pairs
SELECT iteration, dataset AS detail, count(*) FILTER (outcome = 'dropped') / any_value(n_rows) AS figure
FROM token_counts GROUP BY ALL;
SELECT dataset, iteration, id, n_prompt_tokens, limit_tokens FROM token_counts WHERE outcome = 'dropped'
ORDER BY n_prompt_tokens DESC, id
