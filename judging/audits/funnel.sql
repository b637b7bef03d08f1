-- The funnel of every iteration, from generated prompts to pairs, beside what the paper states: 4 candidates a prompt,
-- 3,964 pairs in AIFT(M1) and 6,942 in AIFT(M2) (section 3.1.1); the sizes of its prompt pools are unstated.
-- Ask it of any complete run: selfreward sql RUN -f funnel.sql
WITH asked AS (
    SELECT iteration, count(*) AS prompts_generated, count(*) FILTER (kept) AS prompts_kept FROM prompts GROUP BY iteration
), answered AS (
    SELECT iteration, count(*) AS candidates, count(*) FILTER (finish_reason = 'stop') AS candidates_whole
    FROM candidates GROUP BY iteration
), judged AS (
    SELECT iteration, count(*) AS judgements, count(score) AS judgements_scored FROM judgements GROUP BY iteration
), rewarded AS (
    SELECT iteration, sum(n) AS candidates_scored, count(*) FILTER (n > 1) AS prompts_comparable,
        count(*) FILTER (n > 1 AND lowest < highest) AS prompts_not_tied
    FROM (SELECT iteration, prompt_id, count(score) AS n, min(score) AS lowest, max(score) AS highest
          FROM scores GROUP BY ALL) GROUP BY iteration
), paired AS (
    SELECT iteration, count(*) AS pairs FROM pairs GROUP BY iteration
), paper (iteration, step, of_paper) AS (
    VALUES (1, 'pairs', 3964), (2, 'pairs', 6942)
), counted AS (
    SELECT iteration, unnest([
        {place: 1, step: 'prompts_generated', n: prompts_generated, base: prompts_generated},
        {place: 2, step: 'prompts_kept', n: prompts_kept, base: prompts_generated},
        {place: 3, step: 'candidates', n: candidates, base: candidates},
        {place: 4, step: 'candidates_whole', n: candidates_whole, base: candidates},
        {place: 5, step: 'judgements', n: judgements, base: judgements},
        {place: 6, step: 'judgements_scored', n: judgements_scored, base: judgements},
        {place: 7, step: 'candidates_scored', n: candidates_scored, base: candidates},
        {place: 8, step: 'prompts_comparable', n: prompts_comparable, base: prompts_kept},
        {place: 9, step: 'prompts_not_tied', n: prompts_not_tied, base: prompts_kept},
        {place: 10, step: 'pairs', n: pairs, base: prompts_kept}], recursive := true)
    FROM asked FULL JOIN answered USING (iteration) FULL JOIN judged USING (iteration) FULL JOIN rewarded USING (iteration)
    FULL JOIN paired USING (iteration)
)
SELECT iteration, step, n::BIGINT AS n, round(n / base, 3) AS share, of_paper AS paper
FROM counted LEFT JOIN paper USING (iteration, step) ORDER BY iteration, place
