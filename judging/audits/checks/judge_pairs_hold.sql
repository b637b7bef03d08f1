-- name: judge_pairs_hold
-- group: contract
-- protects from: training the judge towards the worse judgement, or on texts that no judgement has
-- severity: fail
-- needs: judge_pairs, judgements
WITH sides AS (
    SELECT iteration, judge_pair_id, candidate_id, unnest(['chosen', 'rejected']) AS side, unnest([chosen_id, rejected_id]) AS judgement_id,
        unnest([chosen[-1].content, rejected[-1].content]) AS told, unnest([chosen_score, rejected_score]) AS told_score
    FROM judge_pairs
)
SELECT 'judge_pairs' AS dataset, s.iteration, judge_pair_id AS id, side || CASE WHEN j.judgement_id IS NULL THEN ': no such judgement'
    WHEN j.candidate_id <> s.candidate_id THEN ': of another answer' WHEN j.judgement <> told THEN ': another text than the judgement'
    ELSE ': another score than the judgement' END AS problem
FROM sides s LEFT JOIN judgements j ON j.iteration = s.iteration AND j.judgement_id = s.judgement_id
WHERE j.judgement_id IS NULL OR j.candidate_id <> s.candidate_id OR j.judgement <> told
    OR NOT coalesce(abs(j.score - told_score) <= 1e-9, false)
UNION ALL
SELECT 'judge_pairs', iteration, judge_pair_id, 'the chosen judgement is not rated higher' FROM judge_pairs
WHERE NOT coalesce(chosen_rating > rejected_rating, false) OR trim(chosen[-1].content) = trim(rejected[-1].content)
