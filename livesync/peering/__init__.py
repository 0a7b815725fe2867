"""Who may exchange what, over a network: partitions and filters, identities, certificates, sessions."""
