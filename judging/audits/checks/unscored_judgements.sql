-- name: unscored_judgements
-- group: judge
-- protects from: rewards that rest on the few judgements that happened to be readable
-- severity: warn
-- threshold: at most 0.2
-- figure: share of judgements without a score, worst iteration
-- needs: judgements
SELECT iteration, coalesce(sum(n) FILTER (status <> 'ok'), 0) / sum(n) AS figure,
    string_agg(status || ' ' || n, ', ' ORDER BY n DESC, status) FILTER (status <> 'ok') AS detail
FROM (SELECT iteration, status, count(*) AS n FROM judgements GROUP BY ALL) GROUP BY iteration;
SELECT 'judgements' AS dataset, iteration, judgement_id AS id, candidate_id, status FROM judgements
WHERE status <> 'ok' ORDER BY iteration, status, id
