-- name: pairs_from_usable_answers
-- group: contract
-- protects from: training towards an answer that was cut off, failed or was never scored
-- severity: fail
-- needs: pairs, candidates, pair_sides
-- uses: scores
SELECT 'pairs' AS dataset, iteration, pair_id AS id, candidate_id, finish_reason, score FROM pair_sides
WHERE finish_reason <> 'stop'
    OR (finish_reason IS NOT NULL AND score IS NULL AND iteration IN (SELECT DISTINCT iteration FROM scores))
