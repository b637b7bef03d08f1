"""Reading what people bring: files of any usual form as rows (`files`), Open Assistant exports (`oasst`)."""
