"""Reports: one HTML page, its pictures, and a table for a README."""
