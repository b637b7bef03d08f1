-- name: values_in_range
-- group: contract
-- protects from: values outside what the tables promise: an unscored judgement with a number, NaN, an unknown status
-- severity: fail
-- needs: configured, other_iterations
-- uses: eft, prompts, candidates, judgements, scores, pairs
SELECT 'judgements' AS dataset, iteration, judgement_id AS id, problem FROM (
    SELECT iteration, judgement_id, CASE
        WHEN status NOT IN ('ok', 'no_score', 'out_of_range', 'truncated', 'empty', 'engine_error') THEN 'unknown status'
        WHEN isnan(score) THEN 'score is NaN'
        WHEN (status = 'ok') <> (score IS NOT NULL) THEN 'score is NULL if and only if status is not ok'
        WHEN score NOT BETWEEN min_score AND max_score THEN 'score outside the configured range'
        WHEN judge_mode NOT IN ('sampled', 'expected') THEN 'unknown judge_mode'
        WHEN finish_reason NOT IN ('stop', 'length', 'error') THEN 'unknown finish_reason'
        WHEN sample < 0 OR n_tokens < 0 OR attempts < 0 THEN 'a negative count' END AS problem
    FROM judgements, configured) WHERE problem IS NOT NULL
UNION ALL
SELECT 'scores', iteration, candidate_id, problem FROM (
    SELECT iteration, candidate_id, CASE
        WHEN isnan(score) OR isnan(score_variance) THEN 'score is NaN'
        WHEN (n_scored = 0) <> (score IS NULL) THEN 'score is NULL if and only if nothing was scored'
        WHEN score NOT BETWEEN min_score AND max_score THEN 'score outside the configured range'
        WHEN n_scored NOT BETWEEN 0 AND n_judgements THEN 'more judgements scored than made'
        WHEN score_variance < 0 THEN 'negative variance' END AS problem
    FROM scores, configured) WHERE problem IS NOT NULL
UNION ALL
SELECT 'candidates', iteration, candidate_id, problem FROM (
    SELECT iteration, candidate_id, CASE
        WHEN finish_reason NOT IN ('stop', 'length', 'error') THEN 'unknown finish_reason'
        WHEN sample < 0 OR n_tokens < 0 THEN 'a negative count'
        WHEN n_chars <> length(response) THEN 'n_chars is not the length of the response' END AS problem
    FROM candidates) WHERE problem IS NOT NULL
UNION ALL
SELECT 'prompts', iteration, prompt_id, problem FROM (
    SELECT iteration, prompt_id, CASE
        WHEN kept <> (reason IS NULL) THEN 'has a reason if and only if it is not kept'
        WHEN isnan(nearest_rouge_l) OR nearest_rouge_l NOT BETWEEN 0 AND 1 THEN 'nearest_rouge_l outside 0 to 1' END
        AS problem
    FROM prompts) WHERE problem IS NOT NULL
UNION ALL
SELECT 'eft', NULL, eft_id, problem FROM (
    SELECT eft_id, CASE
        WHEN split NOT IN ('train', 'eval') THEN 'unknown split'
        WHEN human_rank < 0 THEN 'negative rank'
        WHEN isnan(target_score) OR target_score NOT BETWEEN min_score AND max_score
            THEN 'target_score outside the configured range'
        WHEN split = 'train' AND accepted AND (target IS NULL OR target_score IS NULL)
            THEN 'trained on without a target' END AS problem
    FROM eft, configured) WHERE problem IS NOT NULL
UNION ALL
SELECT 'pairs', iteration, pair_id, 'a score or margin is NaN' FROM pairs
WHERE isnan(chosen_score) OR isnan(rejected_score) OR isnan(margin)
UNION ALL
SELECT dataset, iteration, NULL, n_rows || ' rows say that they are of another iteration' FROM other_iterations
