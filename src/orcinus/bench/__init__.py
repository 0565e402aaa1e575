"""How fast is it, against what, and can it be believed: load generators, comparisons and reports."""
