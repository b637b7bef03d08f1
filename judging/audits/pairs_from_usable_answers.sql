-- name: pairs_from_usable_answers
-- group: contract
-- protects from: training towards an answer that was cut off, failed or was never scored
-- severity: fail
-- needs: pairs, candidates
-- uses: scores
SELECT 'pairs' AS dataset, p.iteration, pair_id AS id, candidate_id, finish_reason, s.score
FROM (SELECT iteration, pair_id, unnest([chosen_id, rejected_id]) AS candidate_id FROM pairs) p
JOIN candidates c USING (iteration, candidate_id)
LEFT JOIN scores s USING (iteration, candidate_id)
WHERE finish_reason <> 'stop' OR (s.score IS NULL AND p.iteration IN (SELECT DISTINCT iteration FROM scores))
