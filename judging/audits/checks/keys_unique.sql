-- name: keys_unique
-- group: contract
-- protects from: rows that join twice, so that a candidate or pair counts double
-- severity: fail
-- uses: seeds, ift, eft, prompts, candidates, judgements, scores, pairs
--
-- Counting hashes, which is cheaper than counting ids, says which of the long tables' ids can occur twice; those are counted.
WITH candidates_twice AS MATERIALIZED (
    SELECT hash(iteration, candidate_id) AS key FROM candidates GROUP BY key HAVING count(*) > 1
), judgements_twice AS MATERIALIZED (
    SELECT hash(iteration, judgement_id) AS key FROM judgements GROUP BY key HAVING count(*) > 1
), scores_twice AS MATERIALIZED (
    SELECT hash(iteration, candidate_id) AS key FROM scores GROUP BY key HAVING count(*) > 1
)
SELECT 'seeds' AS dataset, NULL::BIGINT AS iteration, seed_id AS id, count(*) AS n FROM seeds GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'ift', NULL, ift_id, count(*) AS n FROM ift GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'eft', NULL, eft_id, count(*) AS n FROM eft GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'prompts', iteration, prompt_id, count(*) AS n FROM prompts GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'candidates', iteration, candidate_id, count(*) AS n FROM candidates
    WHERE hash(iteration, candidate_id) IN (FROM candidates_twice) GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'judgements', iteration, judgement_id, count(*) AS n FROM judgements
    WHERE hash(iteration, judgement_id) IN (FROM judgements_twice) GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'pairs', iteration, pair_id, count(*) AS n FROM pairs GROUP BY ALL HAVING n > 1
UNION ALL SELECT 'scores', iteration, candidate_id, n FROM (
    SELECT iteration, candidate_id, judge, template, judge_mode, count(*) AS n FROM scores
    WHERE hash(iteration, candidate_id) IN (FROM scores_twice) GROUP BY ALL HAVING n > 1)
