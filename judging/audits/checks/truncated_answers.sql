-- name: truncated_answers
-- group: data
-- protects from: a token limit that cuts answers off, so that whole ones win for being whole
-- severity: warn
-- threshold: at most 0.1
-- figure: share of candidates that ended at the token limit, worst iteration
-- needs: candidates
SELECT iteration, avg((finish_reason = 'length')::INT) AS figure FROM candidates GROUP BY iteration;
SELECT 'candidates' AS dataset, iteration, candidate_id AS id, n_tokens, n_chars FROM candidates
WHERE finish_reason = 'length' ORDER BY ALL
