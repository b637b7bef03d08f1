-- name: answers_without_end
-- group: training
-- protects from: a model that never learns to stop, because the template puts no end token after an answer
-- severity: warn
-- threshold: at most 0
-- figure: share of the tokenised rows whose answer has no end token
-- needs: token_counts
-- uses: ift, eft, pairs, judge_pairs
SELECT iteration, dataset AS detail, avg(without_end::INT) AS figure FROM token_counts GROUP BY ALL;
SELECT dataset, iteration, id FROM token_counts WHERE without_end ORDER BY ALL
