"""Reads users' files: common table formats as rows (`files`), Open Assistant exports (`oasst`)."""
