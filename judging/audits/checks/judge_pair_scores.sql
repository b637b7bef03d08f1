-- name: judge_pair_scores
-- group: data
-- protects from: pairs of judgements that teach one score, whatever the answer
-- severity: warn
-- threshold: at most 0.4
-- figure: share of the most common score of the chosen judgements, worst iteration
-- needs: judge_pairs
SELECT iteration, max(n) / sum(n) AS figure, 'score ' || arg_max(chosen_score, n) AS detail
FROM (SELECT iteration, chosen_score, count(*)::DOUBLE AS n FROM judge_pairs GROUP BY ALL) GROUP BY iteration;
SELECT 'judge_pairs' AS dataset, iteration, chosen_score AS score, count(*) AS n FROM judge_pairs GROUP BY ALL ORDER BY ALL
