"""Sessions over a network: transfers that are gone on with where they were cut, at either end."""
