-- name: role_leakage
-- group: data
-- protects from: a model that was trained on many judgements and answers users with a judgement
-- severity: fail
-- threshold: at most 0.05
-- figure: share of candidates that end in a score nobody asked for, worst iteration
-- needs: candidates, prompts
-- setting: verdict = (^|\n|[.!?]\s)\W{0,3}((total|final|overall) )?(score|rating|grade)( is)?\W{1,4}\d([.]\d+)?\W{0,3}(/ ?\d+|out of \d+|points?)?\W{0,3}$
-- setting: asked = \b(scor|rat|grad|judg|point|review|evaluat)
--
-- A prompt that asks for a score, a rating or a review may get one. Remedies: fewer EFT rows beside more IFT rows
-- (split.eft_train, ift.n_max), fewer epochs.
SELECT c.iteration, (SELECT count(*) FROM offending o WHERE o.iteration = c.iteration) / count(*) AS figure
FROM candidates c GROUP BY c.iteration;
SELECT 'candidates' AS dataset, c.iteration, c.candidate_id AS id, p.prompt, right(c.response, 200) AS ends_with
FROM candidates c JOIN prompts p USING (iteration, prompt_id)
WHERE regexp_matches(c.response, '(?i)' || $verdict) AND NOT regexp_matches(p.prompt, '(?i)' || $asked)
