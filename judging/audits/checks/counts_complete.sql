-- name: counts_complete
-- group: contract
-- protects from: answers, judgements and scores that went missing: every kept prompt has N candidates, each with its own
-- severity: fail
-- needs: dataset_versions, expected_counts, judged
-- uses: prompts, candidates, judgements, scores
--
-- What was asked for is in the manifests; for imported data, what most prompts (candidates) have.
WITH answers AS MATERIALIZED (
    SELECT iteration, prompt_id AS id, count(*) AS n FROM candidates GROUP BY ALL
), verdicts AS MATERIALIZED (
    SELECT iteration, candidate_id AS id, sum(n_judgements)::BIGINT AS n FROM judged GROUP BY ALL
), usual AS (
    SELECT iteration, arg_max(n, times) AS n FROM (SELECT iteration, n, count(*) AS times FROM answers GROUP BY ALL) GROUP BY ALL
), usual_verdicts AS (
    SELECT iteration, arg_max(n, times) AS n FROM (SELECT iteration, n, count(*) AS times FROM verdicts GROUP BY ALL) GROUP BY ALL
), asked_for AS (
    SELECT iteration, coalesce(n_candidates, u.n) AS n_candidates, coalesce(n_judgements, v.n) AS n_judgements
    FROM expected_counts LEFT JOIN usual u USING (iteration) LEFT JOIN usual_verdicts v USING (iteration)
)
SELECT 'prompts' AS dataset, iteration, id, 'candidates' AS of, n AS found, n_candidates AS expected
FROM answers JOIN asked_for USING (iteration) WHERE n <> n_candidates
UNION ALL
SELECT 'prompts', iteration, prompt_id, 'candidates', 0, n_candidates
FROM prompts JOIN asked_for USING (iteration) WHERE kept AND iteration IN (SELECT iteration FROM dataset_versions WHERE dataset = 'candidates')
    AND NOT EXISTS (SELECT 1 FROM answers a WHERE a.iteration = prompts.iteration AND a.id = prompt_id)
UNION ALL
SELECT 'candidates', iteration, id, 'judgements', n, n_judgements
FROM verdicts JOIN asked_for USING (iteration) WHERE n <> n_judgements
UNION ALL
SELECT 'candidates', iteration, candidate_id, 'judgements', 0, n_judgements
FROM candidates JOIN asked_for USING (iteration) WHERE iteration IN (SELECT iteration FROM dataset_versions WHERE dataset = 'judgements')
    AND NOT EXISTS (SELECT 1 FROM verdicts v WHERE v.iteration = candidates.iteration AND v.id = candidate_id)
UNION ALL
SELECT 'candidates', iteration, id, 'scores', 0, 1 FROM verdicts v
WHERE iteration IN (SELECT iteration FROM dataset_versions WHERE dataset = 'scores')
    AND NOT EXISTS (SELECT 1 FROM scores s WHERE s.iteration = v.iteration AND s.candidate_id = v.id)
