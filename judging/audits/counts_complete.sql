-- name: counts_complete
-- group: contract
-- protects from: answers and judgements that went missing: every kept prompt has N candidates, each with its judgements
-- severity: fail
-- needs: dataset_versions, expected_counts
-- uses: prompts, candidates, judgements
--
-- What was asked for is in the manifests; for imported data, what most prompts (candidates) have.
WITH answers AS (
    SELECT p.iteration, p.prompt_id, count(c.candidate_id) AS n
    FROM prompts p LEFT JOIN candidates c USING (iteration, prompt_id)
    WHERE p.kept AND p.iteration IN (SELECT DISTINCT iteration FROM candidates) GROUP BY ALL
), verdicts AS (
    SELECT c.iteration, c.candidate_id, count(j.judgement_id) AS n
    FROM candidates c LEFT JOIN judgements j USING (iteration, candidate_id)
    WHERE c.iteration IN (SELECT DISTINCT iteration FROM judgements) GROUP BY ALL
), usual AS (
    SELECT iteration, coalesce(any_value(n_candidates), (SELECT mode(n) FROM answers a WHERE a.iteration = e.iteration)) AS n_candidates,
        coalesce(any_value(n_judgements), (SELECT mode(n) FROM verdicts v WHERE v.iteration = e.iteration)) AS n_judgements
    FROM expected_counts e GROUP BY iteration
)
SELECT 'prompts' AS dataset, iteration, prompt_id AS id, 'candidates' AS of, n AS found, n_candidates AS expected
FROM answers JOIN usual USING (iteration) WHERE n <> n_candidates
UNION ALL
SELECT 'candidates', iteration, candidate_id, 'judgements', n, n_judgements
FROM verdicts JOIN usual USING (iteration) WHERE n <> n_judgements
