-- name: judgement_contradicts_score
-- group: judge
-- protects from: a justification and a score that have nothing to do with each other
-- severity: warn
-- threshold: at most 0.05
-- figure: share of the sampled judgements with a high or low score whose words plainly say the opposite
-- needs: judgement_sample, configured
-- setting: praise = (?i)\b(impeccabl[ey]|excellent|perfect(ly)?|outstanding|expertly|fully addresses)\b
-- setting: blame = (?i)\b(irrelevant|nonsens(e|ical)|completely wrong|useless|gibberish|does not (address|answer))\b
-- setting: hedge = (?i)\b(but|however|although|not (quite|an?|the|very|fully|excellent|perfect)|nor|isn.t|no)\b
--
-- Only what can be told cheaply: unhedged words of praise under a score in the lowest fifth of the range, of blame
-- above one in the highest fifth. A judgement that also holds a "but" or a negation is left alone.
SELECT (SELECT count(*) FROM offending) / nullif(count(*), 0) AS figure FROM judgement_sample, configured
WHERE abs(score - (min_score + max_score) / 2) >= 0.3 * (max_score - min_score);
SELECT 'judgements' AS dataset, iteration, judgement_id AS id, score, judgement FROM judgement_sample, configured
WHERE NOT regexp_matches(judgement, $hedge) AND (
    score <= min_score + 0.2 * (max_score - min_score) AND regexp_matches(judgement, $praise)
    OR score >= max_score - 0.2 * (max_score - min_score) AND regexp_matches(judgement, $blame))
ORDER BY id
