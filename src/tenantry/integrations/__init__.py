"""Leaves for frameworks. Each imports its framework, and of tenantry what an application sees too."""
