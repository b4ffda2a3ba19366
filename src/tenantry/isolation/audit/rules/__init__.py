"""One module for each rule: `RULE` says what it is, `check` finds it. Being here is being
registered.
"""
