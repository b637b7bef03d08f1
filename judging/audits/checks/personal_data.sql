-- name: personal_data
-- group: data
-- protects from: publishing, or teaching, addresses and numbers of people
-- severity: warn
-- figure: texts with what looks like an e-mail address, or a telephone, card, bank account or social security number
-- needs: texts
-- setting: email = [A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,}
-- setting: telephone = \+\d{1,3}[ .-]?\(?\d{2,4}\)?(?:[ .-]?\d{2,4}){2,3}\b|\(\d{3}\) ?\d{3}-\d{4}\b|\b\d{3}-\d{3}-\d{4}\b
-- setting: number = \b\d{3}-\d{2}-\d{4}\b|\b(?:\d{4}[ -]){3}\d{4}\b|\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b
--
-- Patterns only: names and street addresses are not seen. Addresses at example.com, .org and .net do not count.
SELECT dataset, iteration, id, part, enters_training,
    regexp_extract(text, $email || '|' || $telephone || '|' || $number) AS found
FROM texts WHERE found <> '' AND NOT regexp_matches(found, '(?i)@example\.(com|org|net)$')
