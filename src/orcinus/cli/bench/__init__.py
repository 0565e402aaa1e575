"""`orcinus bench`: how fast is it, against what, and can it be believed."""
