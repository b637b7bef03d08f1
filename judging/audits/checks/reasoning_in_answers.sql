-- name: reasoning_in_answers
-- group: data
-- protects from: reasoning that a model or server left in its answers (<think> and its kind), learnt as if it were the answer
-- severity: warn
-- figure: answers and judgements trained on that hold a mark of reasoning
-- needs: training_texts
-- uses: ift, eft, pairs
-- setting: mark = </?(think|thinking|thought|reasoning)>|\[/?think\]|<\|?channel\|?>
--
-- The same marks as the score parser's (judging/parsing/quotations.py). Open, closed and lone ones count alike: an answer
-- that talks about such a tag is named too. Reasoning without marks is not found.
SELECT dataset, iteration, id, part, left(text, 300) AS text FROM training_texts
WHERE part <> 'prompt' AND regexp_matches(text, '(?i)' || $mark) ORDER BY ALL
