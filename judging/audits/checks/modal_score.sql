-- name: modal_score
-- group: judge
-- protects from: a judge that collapsed to one score (without EFT, the paper's did: to 4)
-- severity: warn
-- threshold: at most 0.8
-- figure: share of the most common score, worst iteration
-- needs: judgements
SELECT iteration, max(n) / sum(n) AS figure, 'score ' || arg_max(score, n) AS detail
FROM (SELECT iteration, score, count(*)::DOUBLE AS n FROM judgements WHERE score IS NOT NULL GROUP BY ALL)
GROUP BY iteration;
SELECT 'judgements' AS dataset, iteration, score, count(*) AS n FROM judgements WHERE score IS NOT NULL
GROUP BY ALL ORDER BY ALL
