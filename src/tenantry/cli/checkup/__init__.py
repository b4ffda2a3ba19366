"""What `tenantry check` does: `facts` asks the databases, `rules` says what is wrong with the answers."""
