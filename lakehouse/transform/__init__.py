"""dbt on Delta: the project's models, built, tested and read by the same tables as everything else."""
