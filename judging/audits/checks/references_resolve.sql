-- name: references_resolve
-- group: contract
-- protects from: rows that were made from something that is not there, as after mixing two versions
-- severity: fail
-- needs: judged, dataset_versions
-- uses: seeds, ift, eft, prompts, candidates, judgements, scores, pairs, meta_judgements, judge_pairs
--
-- Only references into a dataset that the run has (in that iteration, from that source) are followed. What points into
-- one dataset is looked up together, judgements by candidate and each demonstration once; whose they are is asked only
-- of what is not there.
WITH has AS (
    SELECT dataset, iteration FROM dataset_versions
), to_candidates AS (
    SELECT 'judgements' AS dataset, iteration, NULL AS id, 'candidate_id' AS reference, candidate_id AS target FROM judged
    UNION ALL SELECT 'scores', iteration, candidate_id, 'candidate_id', candidate_id FROM scores
    UNION ALL SELECT 'pairs', iteration, pair_id, 'chosen_id', chosen_id FROM pairs
    UNION ALL SELECT 'pairs', iteration, pair_id, 'rejected_id', rejected_id FROM pairs
), to_prompts AS (
    SELECT 'candidates' AS dataset, iteration, candidate_id AS id, 'prompt_id' AS reference, prompt_id AS target FROM candidates
    UNION ALL SELECT 'pairs', iteration, pair_id, 'prompt_id', prompt_id FROM pairs
), to_judgements AS (
    SELECT 'meta_judgements' AS dataset, iteration, meta_judgement_id AS id, 'first_id' AS reference, first_id AS target FROM meta_judgements
    UNION ALL SELECT 'meta_judgements', iteration, meta_judgement_id, 'second_id', second_id FROM meta_judgements
    UNION ALL SELECT 'judge_pairs', iteration, judge_pair_id, 'chosen_id', chosen_id FROM judge_pairs
    UNION ALL SELECT 'judge_pairs', iteration, judge_pair_id, 'rejected_id', rejected_id FROM judge_pairs
), no_candidate AS MATERIALIZED (
    SELECT t.* FROM to_candidates t ANTI JOIN candidates c ON t.iteration = c.iteration AND t.target = c.candidate_id
), no_prompt AS MATERIALIZED (
    SELECT t.* FROM to_prompts t ANTI JOIN prompts p ON t.iteration = p.iteration AND t.target = p.prompt_id
), not_shown AS MATERIALIZED (
    SELECT target FROM (SELECT DISTINCT unnest(demonstration_ids) AS target FROM prompts)
    ANTI JOIN (SELECT ift_id AS target FROM ift UNION ALL SELECT prompt_id FROM prompts) USING (target)
)
SELECT * FROM no_candidate WHERE dataset <> 'judgements' AND iteration IN (SELECT iteration FROM has WHERE dataset = 'candidates')
UNION ALL
SELECT 'judgements', iteration, judgement_id, 'candidate_id', candidate_id FROM judgements
SEMI JOIN (SELECT iteration, target AS candidate_id FROM no_candidate WHERE dataset = 'judgements') USING (iteration, candidate_id)
WHERE iteration IN (SELECT iteration FROM has WHERE dataset = 'candidates')
UNION ALL
SELECT t.* FROM to_judgements t ANTI JOIN judgements j ON t.iteration = j.iteration AND t.target = j.judgement_id
WHERE t.iteration IN (SELECT iteration FROM has WHERE dataset = 'judgements')
UNION ALL
SELECT * FROM no_prompt WHERE iteration IN (SELECT iteration FROM has WHERE dataset = 'prompts')
UNION ALL
SELECT 'prompts', iteration, id, 'demonstration_ids', target
FROM (SELECT iteration, prompt_id AS id, unnest(demonstration_ids) AS target FROM prompts) SEMI JOIN not_shown USING (target)
WHERE EXISTS (SELECT 1 FROM has WHERE dataset = 'ift')
UNION ALL
SELECT 'ift', NULL, ift_id, 'source_id', source_id FROM ift ANTI JOIN seeds ON source_id = seed_id
WHERE source IN (SELECT DISTINCT source FROM seeds)
    OR NOT EXISTS (SELECT 1 FROM seeds) AND EXISTS (SELECT 1 FROM has WHERE dataset = 'seeds')
UNION ALL
SELECT 'eft', NULL, eft_id, 'source_id', source_id FROM eft ANTI JOIN seeds ON source_id = seed_id
WHERE source IN (SELECT DISTINCT source FROM seeds)
    OR NOT EXISTS (SELECT 1 FROM seeds) AND EXISTS (SELECT 1 FROM has WHERE dataset = 'seeds')
