-- Several pairs of a prompt: every better answer against every worse one that it beats by more than $min_margin points,
-- the widest margins first, up to $per_prompt (`pairs.per_prompt`). Equal margins: the lower sample numbers first.
WITH ranked AS (
    SELECT chosen.prompt_id, chosen.candidate_id AS chosen_id, rejected.candidate_id AS rejected_id,
        row_number() OVER (
            PARTITION BY chosen.prompt_id ORDER BY chosen.score - rejected.score DESC, chosen.sample, rejected.sample) AS place
    FROM eligible chosen JOIN eligible rejected ON chosen.prompt_id = rejected.prompt_id
    WHERE chosen.may_be_chosen AND chosen.score > rejected.score AND chosen.score - rejected.score > $min_margin
)
SELECT prompt_id, chosen_id, rejected_id FROM ranked WHERE place <= $per_prompt
