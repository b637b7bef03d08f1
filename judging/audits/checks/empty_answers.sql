-- name: empty_answers
-- group: data
-- protects from: answers that are empty or that an engine failed to give
-- severity: warn
-- threshold: at most 0.01
-- figure: share of candidates that are empty or failed, worst iteration
-- needs: candidates
SELECT iteration, avg((finish_reason = 'error' OR response = '' OR regexp_full_match(response, '\s+'))::INT) AS figure
FROM candidates GROUP BY iteration;
SELECT 'candidates' AS dataset, iteration, candidate_id AS id, finish_reason, error FROM candidates
WHERE finish_reason = 'error' OR response = '' OR regexp_full_match(response, '\s+') ORDER BY ALL
