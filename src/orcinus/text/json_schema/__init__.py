"""JSON schemas as applications send them, in the keywords that grammars enforce."""
