-- name: refusals
-- group: data
-- protects from: teaching the model to refuse
-- severity: warn
-- threshold: at most 0.05
-- figure: share of positive answers (ift's and the chosen ones) that begin with a refusal, worst iteration
-- needs: training_texts
-- uses: ift, pairs
-- setting: excuse = I(.m| am) (sorry|afraid|unable)|(I )?apologi[sz]e|sorry,|unfortunately, I|as an? (AI|artificial|language)
-- setting: refusal = I (can.?t|cannot|can not|won.t|will not|am not able to) (help|assist|provide|answer|comply|fulfil|do that|create|write)
SELECT iteration, count(o.id) / count(*) AS figure
FROM training_texts t LEFT JOIN offending o USING (dataset, iteration, id, part)
WHERE (t.dataset, t.part) IN (('ift', 'response'), ('pairs', 'chosen')) GROUP BY iteration;
SELECT dataset, iteration, id, part, left(text, 300) AS text FROM training_texts
WHERE (dataset, part) IN (('ift', 'response'), ('pairs', 'chosen'))
    AND regexp_matches(left(text, 200), '(?i)^\W{0,3}(' || $excuse || '|' || $refusal || ')')
