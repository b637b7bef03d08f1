-- name: meta_without_winner
-- group: judge
-- protects from: ratings of judgements that rest on few of the comparisons
-- severity: warn
-- threshold: at most 0.2
-- figure: share of comparisons that name no winner, worst iteration
-- needs: meta_judgements
SELECT iteration, avg((winner IS NULL)::INT) AS figure FROM meta_judgements GROUP BY iteration;
SELECT 'meta_judgements' AS dataset, iteration, meta_judgement_id AS id, status, finish_reason FROM meta_judgements
WHERE winner IS NULL ORDER BY ALL
