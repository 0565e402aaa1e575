"""What keeps a GPU busy: captured graphs, and tokens that are chosen where the next batch reads them."""
