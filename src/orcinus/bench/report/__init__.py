"""Results for the eye: one page that needs nothing else, pictures beside it, and a table for a README."""
