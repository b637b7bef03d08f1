-- name: references_resolve
-- group: contract
-- protects from: rows that were made from something that is not there, as after mixing two versions
-- severity: fail
-- uses: seeds, ift, eft, prompts, candidates, judgements, scores, pairs
--
-- Only references into a dataset that the run has (in that iteration, from that source) are followed.
WITH shown AS (
    SELECT iteration, prompt_id AS id, unnest(demonstration_ids) AS target FROM prompts
)
SELECT 'candidates' AS dataset, iteration, candidate_id AS id, 'prompt_id' AS reference, prompt_id AS target
FROM candidates c ANTI JOIN prompts p USING (iteration, prompt_id)
WHERE iteration IN (SELECT DISTINCT iteration FROM prompts)
UNION ALL
SELECT 'judgements', iteration, judgement_id, 'candidate_id', candidate_id
FROM judgements ANTI JOIN candidates USING (iteration, candidate_id)
WHERE iteration IN (SELECT DISTINCT iteration FROM candidates)
UNION ALL
SELECT 'scores', iteration, candidate_id, 'candidate_id', candidate_id
FROM scores ANTI JOIN candidates USING (iteration, candidate_id)
WHERE iteration IN (SELECT DISTINCT iteration FROM candidates)
UNION ALL
SELECT 'pairs', iteration, pair_id, reference, target
FROM (SELECT iteration, pair_id, unnest(['chosen_id', 'rejected_id']) AS reference,
          unnest([chosen_id, rejected_id]) AS target FROM pairs) p
ANTI JOIN candidates c ON p.iteration = c.iteration AND p.target = c.candidate_id
WHERE iteration IN (SELECT DISTINCT iteration FROM candidates)
UNION ALL
SELECT 'pairs', iteration, pair_id, 'prompt_id', prompt_id FROM pairs ANTI JOIN prompts USING (iteration, prompt_id)
WHERE iteration IN (SELECT DISTINCT iteration FROM prompts)
UNION ALL
SELECT 'prompts', iteration, id, 'demonstration_ids', target
FROM shown ANTI JOIN (SELECT ift_id AS target FROM ift UNION ALL SELECT prompt_id FROM prompts) USING (target)
WHERE EXISTS (SELECT 1 FROM ift)
UNION ALL
SELECT 'ift', NULL, ift_id, 'source_id', source_id FROM ift ANTI JOIN seeds ON source_id = seed_id
WHERE source IN (SELECT DISTINCT source FROM seeds)
UNION ALL
SELECT 'eft', NULL, eft_id, 'source_id', source_id FROM eft ANTI JOIN seeds ON source_id = seed_id
WHERE source IN (SELECT DISTINCT source FROM seeds)
