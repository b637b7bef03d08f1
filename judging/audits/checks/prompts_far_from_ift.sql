-- name: prompts_far_from_ift
-- group: data
-- protects from: generated prompts that drift away from what people ask
-- severity: warn
-- threshold: at most 0.1
-- figure: share of kept prompts with more unknown words than 99 of 100 IFT prompts, or half as long again as any; worst iteration
-- setting: fewest = 20
-- needs: ift, prompts, prompt_words
--
-- A word is unknown if no (other) IFT prompt has it, so that about 1 in 100 prompts like IFT's is far. With fewer than
-- $fewest IFT prompts there is nothing to compare with.
SELECT iteration, coalesce(any_value(n_far), 0) / count(*) AS figure
FROM prompt_words LEFT JOIN (SELECT iteration, count(*) AS n_far FROM offending GROUP BY iteration) USING (iteration)
WHERE dataset = 'prompts' AND (SELECT count(*) FROM ift) >= $fewest GROUP BY iteration;
SELECT dataset, iteration, id, unknown_share, length(text) AS n_chars, text AS prompt FROM prompt_words
WHERE dataset = 'prompts' AND (
    coalesce(unknown_share, 1) > (SELECT quantile_cont(unknown_share, 0.99) FROM prompt_words WHERE dataset = 'ift')
    OR n_chars > 1.5 * (SELECT max(length(prompt)) FROM ift))
ORDER BY unknown_share DESC NULLS FIRST, id
