"""What happened: observers that turn events and batches into numbers. They change nothing and cost nothing when absent."""
