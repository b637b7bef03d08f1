-- name: meta_position_flips
-- group: judge
-- protects from: a meta-judge that goes by the place of a judgement, not by its content
-- severity: warn
-- threshold: at most 0.5
-- figure: share of compared judgements whose winner changes with their order, worst iteration
-- needs: meta_judgements
--
-- A coin flips half of them. A tie in one order only is a change as well.
SELECT iteration, avg(flipped::INT) AS figure, format('{} of {}; the first won {}, the second {} of the comparisons',
    count(*) FILTER (flipped), count(*), sum(first_wins), sum(second_wins)) AS detail
FROM (
    SELECT a.iteration, CASE a.winner WHEN 'first' THEN a.first_id WHEN 'second' THEN a.second_id END IS DISTINCT FROM
            CASE b.winner WHEN 'first' THEN b.first_id WHEN 'second' THEN b.second_id END AS flipped,
        (a.winner = 'first')::INT + (b.winner = 'first')::INT AS first_wins, (a.winner = 'second')::INT + (b.winner = 'second')::INT AS second_wins
    FROM meta_judgements a JOIN meta_judgements b
        ON a.iteration = b.iteration AND a.first_id = b.second_id AND a.second_id = b.first_id AND a.first_id < a.second_id
    WHERE a.winner IS NOT NULL AND b.winner IS NOT NULL
) GROUP BY iteration;
SELECT 'meta_judgements' AS dataset, a.iteration, a.meta_judgement_id AS id, a.winner, b.winner AS winner_swapped
FROM meta_judgements a JOIN meta_judgements b
    ON a.iteration = b.iteration AND a.first_id = b.second_id AND a.second_id = b.first_id AND a.first_id < a.second_id
WHERE (a.winner = b.winner AND a.winner <> 'tie') OR (a.winner = 'tie') <> (b.winner = 'tie')
ORDER BY ALL
